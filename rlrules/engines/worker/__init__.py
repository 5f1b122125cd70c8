"""On the path of a server's workers, alone: nothing else of this package is."""
