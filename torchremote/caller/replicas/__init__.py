"""Modules of one name on several workers, called as one."""
