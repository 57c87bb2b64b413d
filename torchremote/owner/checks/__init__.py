"""Looks into a user's module before it is scripted or hosted.

Most files refuse one kind of fault. prepared.py finds the module that is scripted; scripted_code.py and source.py find
the code that they look at, kinds.py and the files kinds_of_*.py tell what its names are, self_changing.py says whether
calls have to run in turn, and refused.py words what TorchScript refuses.
"""
