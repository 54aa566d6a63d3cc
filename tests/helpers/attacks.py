"""A table of attacks that runs in seconds: four clients, two rounds, the embedded backbone."""

from typing import Any

SMALL: dict[str, Any] = {
    "base": {
        "data": "digits",
        "partition": {"name": "dirichlet", "clients": 4, "alpha": 0.5},
        "sampling": {"shots": 4},
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.3},
        "rounds": {"rounds": 2, "evaluate_every": 2},
    },
    "methods": {
        "pFedMoAP": {"method": {"name": "pfedmoap", "context_length": 2, "experts": 2}},
        "PromptFL": {"method": {"name": "promptfl", "context_length": 2}},
    },
    "defences": {
        "none": {"server": {"max_change": None, "max_examples": 10**6}},
        "median <b>": {"server": {"aggregation": "median"}},
    },
    "attacks": ["nan", "sign_flip", "backdoor", "sybil"],
    "shares": [0.25, 0.5],
    "seeds": [0],
    "target": 3,
}
"""The second defence's label must act nowhere."""
