"""The command line: rounds until the minutes are over, or one round again."""

import argparse
import random
import signal
import sys
import time

from .report import Total
from .rounds import run_round


def run(minutes, seed):
    """Runs rounds for some minutes; the last may end later. Returns the Total."""
    seeds, total, end = random.Random(seed), Total(), time.monotonic() + 60 * minutes
    print(f"seed {seed}", flush=True)
    while time.monotonic() < end:
        play(seeds.getrandbits(32), total)
    print(total, flush=True)
    return total


def play(seed, total, **given):
    """Runs one round, tells of it, and adds its figures to `total`."""
    began = time.monotonic()
    outcome = run_round(seed, **given)
    total.add(outcome)
    operations = sum(sum(report["operations"].values()) for report in outcome.reports.values())
    events = ", ".join(f"{what} {count}" for what, count in sorted(outcome.events.items())) or "nothing"
    what = f"{time.monotonic() - began:.0f} s, {operations} operations, {events}, {len(outcome.faults)} faults"
    print(f"round {sum(total.rounds.values())}: --round-seed {seed}: {outcome.settings.kind}, {what}", flush=True)
    for fault in outcome.faults[:20]:
        print(f"  {fault['kind']} in {fault['worker']}: {fault['text'][:4000]}", flush=True)
    if outcome.faults:
        print(outcome.output, flush=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="after these, no round begins")
    parser.add_argument("--seed", type=int, default=1, help="of the run; each round has one of its own")
    parser.add_argument("--round-seed", type=int, help="runs one round, with this seed, and no other")
    parser.add_argument("--kind", choices=["kills", "stops", "calm"], help="of the round, with --round-seed")
    parser.add_argument("--seconds", type=float, help="that the round works, with --round-seed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a round ends its workers
    if options.round_seed is None:
        total = run(options.minutes, options.seed)
    else:
        total = Total()
        play(options.round_seed, total, seconds=options.seconds, kind=options.kind)
        print(total, flush=True)
    sys.exit(1 if total.faults else 0)


if __name__ == "__main__":
    main()
