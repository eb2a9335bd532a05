"""Rules that correct a label map after the network: one file per rule, each usable in a plan and searchable."""
