"""Jobs on workers: in this process, in processes of this machine, or on a Dask cluster."""
