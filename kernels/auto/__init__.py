"""``<format>.auto``: the kernel expected to be fastest for a case, by a table of measured cells."""
