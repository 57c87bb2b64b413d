"""Random operations while workers are killed and stopped: `make chaos` runs an hour.

A round is a group of five processes: two owners, two callers, and a third party that owns and calls. A round ends with
its group, because torch cannot take a lost worker back.

* `modules.py`: what is hosted.
* `books.py`: what was sent to a hosted module, and so which values may come back.
* `forms.py`: the ways to make calls: blocking, asynchronous, many at once, with a short timeout.
* `calls.py`: operations that call. `lives.py`: those that create, connect, withdraw and drop. `sending.py`: those that
  send, fetch, copy and save stubs. `state.py`: those on a module's state. `chances.py`: how often each is drawn, and
  with which stub.
* `caller.py`: a thread that makes random operations. `housekeeping.py`: what an owner does with what it serves.
* `watch.py`: notices what does not come back. `report.py`: counts, and tells of faults.
* `board.py`: integers that all processes of a round share, also with one that was killed.
* `worker.py`: a process of a round. `rounds.py`: a round, seen from outside. `__main__.py`: the command line.
"""
