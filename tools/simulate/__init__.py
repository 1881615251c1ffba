"""A province by night, on a manual clock: the real planners with a model of lines, disks, viewers and absent edges."""
