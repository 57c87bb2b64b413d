"""Which questions are asked, and where their answers are kept."""

from pathlib import Path

QUESTIONS = (
    *(
        "latency",
        "native",
        "native_in_flight",
        "beside_peers",
        "in_flight",
        "batches",
        "large_tensors",
        "busy_owner",
        "callers",
        "in_turn",
        "pipeline",
        "counting",
        "gathering",
        "beside_torchrl",
        "exported",
    ),
    *("replicas", "joining", "creation", "compilation", "growth", "memory", "movement", "settings"),
)
RESULTS = Path(__file__).parent / "results"
