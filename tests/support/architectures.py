"""Tiny models of transformers' model types, each trained, evaluated, saved, loaded and asked again by the harness.

`make architectures` runs all of them and prints the table of docs/architectures.md.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    CanineTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

TOLERANCE = 1e-6
"""The largest difference of a logit before and after the model was saved."""

CONTENT = [f"w{number}" for number in range(24)]
ROWS = 24

BERT = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
)
LLAMA = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    intermediate_size=32,
    max_position_embeddings=64,
)
MIXTURE = LLAMA | dict(num_experts_per_tok=1)
BART = dict(
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    max_position_embeddings=64,
)
T5 = dict(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2)
GPT2 = dict(n_embd=16, n_layer=2, n_head=2, n_positions=64)
XLM = dict(emb_dim=16, n_layers=2, n_heads=2, max_position_embeddings=64)


class Style(NamedTuple):
    """The texts of a row between special tokens."""

    special: list[str]
    """Special tokens, in the order of their numbers."""
    single: str | None
    pair: str | None
    roles: dict[str, str]
    padding_side: str = "right"
    has_types: bool = False


_FIRST, _LAST = ["<s>", "<pad>", "</s>", "<unk>"], {"unk_token": "<unk>", "eos_token": "</s>"}
STYLES = {
    "bert": Style(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"),
        has_types=True,
    ),
    "roberta": Style(
        _FIRST, "<s> $A </s>", "<s> $A </s> </s> $B </s>", _LAST | dict(bos_token="<s>", pad_token="<pad>")
    ),
    "t5": Style(["<pad>", "</s>", "<unk>"], "$A </s>", "$A </s> $B </s>", _LAST | dict(pad_token="<pad>")),
    "gpt": Style(["</s>", "<unk>"], None, None, _LAST, "left"),
    "llama": Style(["<unk>", "<s>", "</s>"], "<s> $A", "<s> $A <s> $B", _LAST | dict(bos_token="<s>"), "left"),
    "xlnet": Style(
        ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"],
        "$A <sep> <cls>:2",
        "$A <sep> $B:1 <sep>:1 <cls>:2",
        _LAST | dict(cls_token="<cls>", sep_token="<sep>", pad_token="<pad>"),
        "left",
        has_types=True,
    ),
    "xlm": Style(
        _FIRST,
        "</s> $A </s>",
        "</s> $A </s> $B:1 </s>:1",
        _LAST | dict(bos_token="<s>", pad_token="<pad>"),
        has_types=True,
    ),
}

CATALOGUE: dict[str, tuple[str, dict[str, Any]]] = {
    # encoders
    "albert": ("bert", BERT | dict(embedding_size=8)),
    "bert": ("bert", BERT),
    "big_bird": ("bert", BERT | dict(attention_type="original_full")),
    "camembert": ("roberta", BERT),
    "canine": ("characters", BERT | dict(num_hash_buckets=64, max_position_embeddings=512, local_attention_window=32)),
    "convbert": ("bert", BERT | dict(embedding_size=8, conv_kernel_size=3)),
    "data2vec-text": ("roberta", BERT),
    "deberta": ("bert", BERT | dict(relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0)),
    "deberta-v2": ("bert", BERT | dict(relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0)),
    "distilbert": ("bert", dict(dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64)),
    "electra": ("bert", BERT | dict(embedding_size=8)),
    "ernie": ("bert", BERT),
    "esm": ("bert", BERT | dict(pad_token_id=0, mask_token_id=1)),
    "eurobert": ("llama", LLAMA),
    "flaubert": ("xlm", XLM),
    "fnet": ("bert", BERT),
    "funnel": ("bert", dict(d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1], num_decoder_layers=1)),
    "gte": ("bert", BERT),
    "ibert": ("roberta", BERT),
    "jina_embeddings_v3": ("roberta", BERT),
    "layoutlm": ("bert", BERT),
    "lilt": ("roberta", BERT | dict(channel_shrink_ratio=2, hidden_size=24)),
    "longformer": ("roberta", BERT | dict(attention_window=8)),
    "luke": ("roberta", BERT | dict(entity_vocab_size=4, entity_emb_size=8)),
    "megatron-bert": ("bert", BERT),
    "mobilebert": ("bert", BERT | dict(embedding_size=8, intra_bottleneck_size=8, num_feedforward_networks=1)),
    "modernbert": ("bert", BERT | dict(pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3)),
    "mpnet": ("roberta", BERT),
    "mra": ("roberta", BERT),
    "nomic_bert": ("bert", BERT),
    "nystromformer": ("bert", BERT | dict(num_landmarks=64, segment_means_seq_len=64)),
    "rembert": ("bert", BERT | dict(input_embedding_size=8, output_embedding_size=8)),
    "roberta": ("roberta", BERT),
    "roberta-prelayernorm": ("roberta", BERT),
    "roc_bert": ("bert", BERT | dict(pronunciation_vocab_size=40, shape_vocab_size=40)),
    "roformer": ("bert", BERT | dict(embedding_size=16)),
    "squeezebert": ("bert", BERT | dict(embedding_size=16, q_groups=1, k_groups=1, v_groups=1)),
    "xlm": ("xlm", XLM),
    "xlm-roberta": ("roberta", BERT),
    "xlm-roberta-xl": ("roberta", BERT),
    "xlnet": ("xlnet", dict(d_model=16, n_layer=2, n_head=2, d_inner=32)),
    "xmod": ("roberta", BERT | dict(languages=["en_XX"], default_language="en_XX")),
    "yoso": ("bert", BERT | dict(use_expectation=True)),
    # encoders with decoders
    "bart": ("roberta", BART),
    "bigbird_pegasus": ("t5", BART | dict(attention_type="original_full")),
    "mbart": ("roberta", BART),
    "mt5": ("t5", T5),
    "mvp": ("roberta", BART),
    "plbart": ("roberta", BART),
    "t5": ("t5", T5),
    "umt5": ("t5", T5),
    # decoders
    "arcee": ("llama", LLAMA),
    "biogpt": ("gpt", BERT),
    "bloom": ("gpt", dict(hidden_size=16, n_layer=2, n_head=2)),
    "ctrl": ("gpt", dict(n_embd=16, dff=32, n_layer=2, n_head=2, n_positions=64)),
    "deepseek_v2": (
        "llama",
        LLAMA
        | dict(
            moe_intermediate_size=16,
            n_routed_experts=2,
            num_experts_per_tok=1,
            n_shared_experts=1,
            kv_lora_rank=8,
            q_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=8,
            num_key_value_heads=2,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
        ),
    ),
    "diffllama": ("llama", LLAMA | dict(num_key_value_heads=2)),
    "exaone4": ("llama", LLAMA),
    "falcon": ("gpt", dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)),
    "gemma": ("llama", LLAMA),
    "gemma2": ("llama", LLAMA),
    "gemma3_text": ("llama", LLAMA),
    "glm": ("llama", LLAMA),
    "glm4": ("llama", LLAMA),
    "gpt2": ("gpt", GPT2),
    "gpt_bigcode": ("gpt", GPT2),
    "gpt_neo": (
        "gpt",
        dict(
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]],
        ),
    ),
    "gpt_neox": ("gpt", BERT),
    "gpt_oss": ("llama", MIXTURE | dict(num_local_experts=2)),
    "gptj": ("gpt", GPT2 | dict(rotary_dim=4)),
    "helium": ("llama", LLAMA),
    "hunyuan_v1_dense": ("llama", LLAMA),
    "jamba": (
        "llama",
        LLAMA
        | dict(
            attn_layer_period=2,
            attn_layer_offset=1,
            num_experts=2,
            num_experts_per_tok=1,
            mamba_d_state=4,
            mamba_dt_rank=4,
            use_mamba_kernels=False,
        ),
    ),
    "llama": ("llama", LLAMA),
    "minicpm3": (
        "llama",
        LLAMA
        | dict(
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=8,
            num_key_value_heads=2,
        ),
    ),
    "ministral": ("llama", LLAMA),
    "mistral": ("llama", LLAMA),
    "mixtral": ("llama", MIXTURE | dict(num_local_experts=2)),
    "modernbert-decoder": ("gpt", BERT | dict(cls_token_id=0, sep_token_id=0, bos_token_id=0, eos_token_id=0)),
    "mpt": ("gpt", dict(d_model=16, n_layers=2, n_heads=2, max_seq_len=64)),
    "nemotron": ("llama", LLAMA),
    "olmo": ("gpt", LLAMA),
    "olmo2": ("gpt", LLAMA),
    "olmo3": ("gpt", LLAMA),
    "openai-gpt": ("gpt", GPT2),
    "opt": ("gpt", BERT | dict(ffn_dim=32, word_embed_proj_dim=16)),
    "persimmon": ("llama", BERT),
    "phi": ("gpt", BERT),
    "phi3": ("llama", LLAMA),
    "qwen2": ("qwen2", LLAMA),
    "qwen2_moe": (
        "gpt",
        MIXTURE | dict(num_experts=2, moe_intermediate_size=16, shared_expert_intermediate_size=16),
    ),
    "qwen3": ("gpt", LLAMA),
    "qwen3_moe": ("gpt", MIXTURE | dict(num_experts=2, moe_intermediate_size=16)),
    "seed_oss": ("llama", LLAMA),
    "smollm3": ("llama", LLAMA),
    "stablelm": ("llama", BERT | dict(num_key_value_heads=2)),
    "starcoder2": ("gpt", LLAMA),
}
"""Style of the tokenizer and sizes, by model type."""


class Outcome(NamedTuple):
    """The result of one model type."""

    model_type: str
    architecture: str
    parameters: int
    tokens: int
    """Tokens of the training rows."""
    fault: str
    """Empty if everything passed."""
    notes: str

    @property
    def row(self) -> str:
        """The line of the table in Markdown."""
        passes = f"fails: {self.fault}" if self.fault else "passes"
        cells = [f"`{self.model_type}`", self.architecture, f"{self.parameters:,}", str(self.tokens), passes]
        return f"| {' | '.join([*cells, self.notes])} |"


HEADER = """| model type | class | parameters | tokens | result | notes |
|---|---|---:|---:|---|---|"""


def tiny_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a tiny classifier with two labels and 40 tokens; `changes` replace these and its sizes."""
    settings = dict(vocab_size=40, pad_token_id=1, num_labels=2) | CATALOGUE[model_type][1] | changes
    return AutoConfig.for_model(model_type, **settings)


def write_model(folder: Path, model_type: str) -> None:
    """Writes a checkpoint of a tiny model with random weights and a tokenizer in the style of its family."""
    style, sizes = CATALOGUE[model_type]
    tokenizer = tokenizer_of(style)
    torch.manual_seed(0)
    vocabulary = {} if style == "characters" else dict(vocab_size=len(tokenizer) + 8)
    named = {role: getattr(tokenizer, role) for role in ("pad_token_id", "bos_token_id", "eos_token_id")}
    special = {role: number for role, number in named.items() if number is not None}
    special.setdefault("pad_token_id", special.get("eos_token_id"))
    config = AutoConfig.for_model(model_type, **(vocabulary | special | sizes), num_labels=2)
    if config.is_encoder_decoder:
        config.decoder_start_token_id = config.pad_token_id if style == "t5" else config.eos_token_id
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer_of(style: str) -> PreTrainedTokenizerBase:
    """Builds a tokenizer in memory: whole words, with the special tokens, types and padding side of a family."""
    if style == "characters":
        return CanineTokenizer()
    if style == "qwen2":
        characters = ["<|endoftext|>", "w", *"0123456789", "Ġ"]
        return Qwen2Tokenizer({character: number for number, character in enumerate(characters)}, [])
    special, single, pair, roles, padding_side, has_types = STYLES[style]
    vocabulary = {token: number for number, token in enumerate([*special, *CONTENT])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=roles["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if single is not None:
        numbers = [(token, vocabulary[token]) for token in special]
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=numbers)
    names = ["input_ids", *(["token_type_ids"] if has_types else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side=padding_side, model_input_names=names, **roles
    )


def write_task(folder: Path) -> Path:
    """Writes a task on pairs of texts of different lengths, and returns its file."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        texts = [" ".join(rng.choice(CONTENT, size=2 + 3 * (row % 4))) for row in range(2 * ROWS)]
        rows = {"first": texts[:ROWS], "second": texts[ROWS:], "label": ["no", "yes"] * (ROWS // 2)}
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
    path = folder / "pairs.yaml"
    path.write_text(
        "title: Pairs\nsource: {files: {train: train.csv, validation: validation.csv}}\n"
        "text: [first, second]\nlabels: ['no', 'yes']\nsplits: {train: train, validation: validation}\n"
        f"rows: {{train: {ROWS}, validation: {ROWS}}}\nmetrics: [accuracy]\nmain_metrics: accuracy\n"
        "recipe: {epochs: 1, global_batch_size: 8, max_length: 32, learning_rate: 1.0e-3}\n"
    )
    return path


def check(model_type: str, folder: Path) -> Outcome:
    """Trains, evaluates, saves, loads and asks a tiny model of this type; nothing is raised."""
    from harness.api import run
    from harness.engine.encoding import encode
    from harness.engine.inference import infer
    from harness.inspection.scorer import open_model
    from harness.rows.splits import Split

    name, parameters, tokens, notes = "", 0, 0, []
    try:
        write_model(folder / model_type, model_type)
        saved, results = folder / "saved", folder / "results"
        options = dict(model=str(folder / model_type), precision="fp32", results=results, save_model=saved)
        record = run(str(write_task(folder)), **options)
        assert record.model is not None
        assert record.cost is not None
        name, parameters, tokens = record.model.architecture, record.model.parameters, record.cost.tokens
        notes = [note.partition(":")[0] for note in record.notes if "left out" in note]
        if record.status not in ("ok", "collapsed"):
            return Outcome(model_type, name, parameters, tokens, f"{record.status}: {record.error}", "; ".join(notes))
        written = pd.read_parquet(results / "runs/pairs" / record.prediction_files["validation"])
        before = np.stack(written["scores"].tolist())
        rows = pd.read_csv(folder / "validation.csv")
        texts = Split(rows["first"].tolist(), rows["second"].tolist(), None)
        scorer = open_model(saved, "fp32", cpu=True, device_batch_size=64)
        after = scorer.scores(texts)
        difference = np.abs(after - before).max()
        if difference > TOLERANCE:
            return Outcome(model_type, name, parameters, tokens, f"logits differ by {difference:.1e}", "; ".join(notes))
        encoded = encode(texts, scorer.tokenizer, 32)
        alone = infer(scorer.accelerator, scorer.model, encoded, 1)
        if np.abs(alone - after).max() > 10 * TOLERANCE:
            notes.append("scores depend on padding")
        if encoded.pads_left:
            notes.append("padded on the left")
    except Exception as error:
        fault = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Outcome(model_type, name, parameters, tokens, fault, "; ".join(notes))
    return Outcome(model_type, name, parameters, tokens, "", "; ".join(notes))


def main(names: list[str]) -> None:
    """Prints the table of these model types, or of all; ends with exit code 1 if one of them fails."""
    print(HEADER)
    faults = []
    for model_type in names or CATALOGUE:
        with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            outcome = check(model_type, Path(folder))
        print(outcome.row, flush=True)
        faults += [outcome.fault] if outcome.fault else []
    print(f"\n{len(faults)} failed; {time.process_time():.0f} seconds of CPU time", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
