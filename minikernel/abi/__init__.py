"""Numbers and structs that user space can see; no behaviour."""
