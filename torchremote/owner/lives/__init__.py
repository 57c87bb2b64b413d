"""Says how long modules without a name live.

Both sides are here: what an owner keeps, and what a holder sends (`send`, `receive`, `give_signs`).
"""
