"""Groups of workers that come, go, crash and come back: the hub, joining and leaving, and owners that are spawned."""
