"""Lightning callbacks, one small file each."""
