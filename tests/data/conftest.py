import json

import numpy as np
import pytest

from sla_ablate.data.config import DataConfig


@pytest.fixture(scope="session")
def texts():
    """60 documents {id: text} of 1 to 80 words, some of them not ASCII."""
    random = np.random.default_rng(0)
    words = ["the", "of", "nation", "Union", "año", "naïve", "日本語", "🙂", "state,", "war.\n", "1790"]
    return {f"doc{i:02d}": " ".join(random.choice(words, random.integers(1, 81))) for i in range(60)}


@pytest.fixture
def corpus(tmp_path, texts):
    """A configuration whose corpus is `texts` as JSON lines."""
    path = tmp_path / "speeches.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in texts.items()))
    return DataConfig(path=str(path), vocab_size=280, validation_fraction=0.3, cache=str(tmp_path / "cache"))


@pytest.fixture
def lines():
    """A list to pass as `log`."""
    return []
