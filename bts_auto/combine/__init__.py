"""Arrays of several members in, one array out. Nothing here knows a file layout or a network."""
