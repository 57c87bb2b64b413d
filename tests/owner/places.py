"""Looks up the places that refusals of code name."""


def names_its_line(refusal, path):
    """Says whether a refusal, as "Class.method (file:line): `code` ...", names the line of `path` that has the code."""
    place, _, what = refusal.partition(": `")
    with open(path) as file:
        line = file.read().splitlines()[int(place.rpartition(":")[2].rstrip(")")) - 1]
    return what.partition("`")[0] in line
