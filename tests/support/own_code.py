"""A tiny architecture of its own, as a checkpoint folder with its Python files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

CONFIGURATION = """
from pathlib import Path
from transformers import PretrainedConfig

with Path({marker!r}).open("a") as file:
    file.write("ran\\n")


class OwnConfig(PretrainedConfig):
    model_type = "own"

    def __init__(self, vocab_size=105, hidden_size=16, **kwargs):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**kwargs)
"""

SIZES = """
SCALE = 2.0
"""

MODELING = """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from .configuration_own import OwnConfig
from .sizes_own import SCALE


class OwnPreTrainedModel(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = {prefix!r}

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.5)


class OwnModel(OwnPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.register_buffer("scale", torch.tensor(SCALE), persistent=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.word_embeddings

    def set_input_embeddings(self, embeddings):
        self.word_embeddings = embeddings

    def forward(self, input_ids, attention_mask=None, **kwargs):
        hidden = torch.tanh(self.scale * self.dense(self.word_embeddings(input_ids)))
        return BaseModelOutput(last_hidden_state=hidden)


class OwnClassifier(OwnPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = OwnModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        hidden = self.encoder(input_ids).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.classifier((hidden * mask).sum(1) / mask.sum(1))
        return SequenceClassifierOutput(logits=logits)
"""

TOKENIZATION = """
from transformers import BertTokenizer

from .configuration_own import OwnConfig


class OwnTokenizer(BertTokenizer):
    pass
"""

CLASSES = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModel": "modeling_own.OwnModel",
    "AutoModelForSequenceClassification": "modeling_own.OwnClassifier",
    "AutoModelForMaskedLM": "masked_own.OwnForMaskedLM",
}


def write_own_model(
    folder: Path,
    tokenizer_of: Path,
    marker: Path,
    prefix: str = "encoder",
    classes: dict[str, str] | None = None,
) -> Path:
    """Writes an encoder, a tokenizer like that of another folder, and code that adds a line to `marker` when it runs.

    `prefix` is the architecture's base_model_prefix; the encoder is called `encoder`.
    """
    import torch
    from safetensors.torch import save_file

    shutil.copytree(tokenizer_of, folder, dirs_exist_ok=True)
    settings = {"model_type": "own", "vocab_size": 105, "hidden_size": 16, "auto_map": classes or CLASSES}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "configuration_own.py").write_text(CONFIGURATION.format(marker=str(marker)))
    (folder / "sizes_own.py").write_text(SIZES)
    (folder / "tokenization_own.py").write_text(TOKENIZATION)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "OwnTokenizer"}
    tokenizer |= {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "modeling_own.py").write_text(MODELING.format(prefix=prefix))
    random = torch.Generator().manual_seed(7)
    shapes = {"word_embeddings.weight": (105, 16), "dense.weight": (16, 16), "dense.bias": (16,)}
    weights = {f"encoder.{name}": torch.randn(*shape, generator=random) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
