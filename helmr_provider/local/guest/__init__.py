"""What stands in for the guest machines: directories, archives and processes of this machine."""
