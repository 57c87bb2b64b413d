"""Says how long modules without a name live.

Both sides are here: what an owner keeps, and what a holder sends (`ask_to_hold`, `take`, `give_signs`).
"""
