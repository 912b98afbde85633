"""What each setting of a model comes to here: it is kept, it changes no vector, or no other value than these is taken.

One table for modules, tokenizer and model. A key that it does not name, with a value that says something, is refused:
no setting is dropped in silence, whichever release of sentence-transformers or transformers wrote it.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from compressor.core.errors import ModelError
from compressor.core.strict_json import read_json

KEPT = "kept"
"""The graph, the folder's files or the runtime do what it says."""
NO_MATTER = "no matter"
"""It changes no vector."""
Rule = str | tuple[Any, ...]  # or the values that are taken, beside what says nothing: null, false, nothing in it


def _all(rule: Rule, keys: str) -> dict[str, Rule]:
    return dict.fromkeys(keys.split(), rule)


_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_POOLED = ("sentence_embedding",)

TRANSFORMER: dict[str, Rule] = {
    "max_seq_length": KEPT,
    "do_lower_case": KEPT,  # sentence-transformers makes it a part of the tokenizer
    "unpad_inputs": NO_MATTER,
    "transformer_task": ("feature-extraction",),
    "modality_config": (_TEXT, {"text": _TEXT["text"] | {"method_output_name": ["last_hidden_state"]}}),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": (),
    "query_length": (),
    "document_length": (),
    "query_expansion": (),
    "model_args": (),
    "model_kwargs": (),
    "tokenizer_args": (),
    "processor_kwargs": (),
    "config_args": (),
    "config_kwargs": (),
    "tokenizer_name_or_path": (),
}
_MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
POOLING: dict[str, Rule] = {
    "word_embedding_dimension": KEPT,
    "embedding_dimension": KEPT,
    "pooling_mode": KEPT,
    **{f"pooling_mode_{mode}": KEPT for mode in _MODES},
    "include_prompt": KEPT,  # what has a prompt besides is refused
}
DENSE: dict[str, Rule] = {
    "in_features": KEPT,
    "out_features": KEPT,
    "bias": KEPT,
    "activation_function": KEPT,
    "module_input_name": _POOLED,
    "module_output_name": _POOLED,
    "use_residual": (),
}
NORMALIZE: dict[str, Rule] = {"module_input_name": _POOLED, "module_output_name": _POOLED}
USAGE: dict[str, Rule] = {
    "prompts": KEPT,
    "default_prompt_name": KEPT,
    "similarity_fn_name": KEPT,
    "truncate_dim": KEPT,  # as a Dense
    "model_type": ("SentenceTransformer",),
    "__version__": NO_MATTER,
    "requirements": NO_MATTER,
}
ENTRY: dict[str, Rule] = {"idx": KEPT, "name": KEPT, "path": KEPT, "type": KEPT, "kwargs": ()}
TOKENIZER: dict[str, Rule] = {
    **_all(
        KEPT,
        """
        tokenizer_class model_max_length truncation_side padding_side model_input_names added_tokens_decoder
        additional_special_tokens extra_special_tokens do_lower_case strip_accents tokenize_chinese_chars
        add_prefix_space trim_offsets add_bos_token add_eos_token normalization split_by_punct remove_space keep_accents
        do_basic_tokenize never_split legacy vocab_type sp_model_kwargs unk_id use_default_system_prompt
        spaces_between_special_tokens extra_ids errors prepend_scheme add_dummy_prefix_space lowercase
        """,  # in tokenizer.json, whose ids are compared with the tokenizer's
    ),
    **_all(
        NO_MATTER,
        """
        name_or_path special_tokens_map_file tokenizer_file vocab_file merges_file backend is_local from_slow use_fast
        local_files_only processor_class auto_map clean_up_tokenization_spaces max_length stride truncation_strategy
        pad_to_multiple_of pad_token_type_id padding truncation verbose tokenizer_type source_lang tgt_lang
        model_specific_special_tokens language_codes return_tensors cls_token_box sep_token_box pad_token_box
        pad_token_label only_label_first_subword wordpieces_prefix
        """,
    ),
    "split_special_tokens": (),
    "chat_template": (),  # sentence-transformers then puts texts through it
}
CONFIG: dict[str, Rule] = {
    **_all(
        KEPT,
        """
        model_type architectures rope_theta rope_scaling rope_parameters local_rope_theta global_rope_theta
        global_attn_every_n_layers layer_types sliding_window_pattern
        """,  # by the traced forward
    ),
    **_all(
        NO_MATTER,
        """
        _name_or_path name_or_path transformers_version torch_dtype dtype auto_map attn_implementation
        _attn_implementation _attn_implementation_autoset gradient_checkpointing use_cache num_labels id2label label2id
        problem_type finetuning_task task_specific_params tokenizer_class prefix bos_token_id eos_token_id sep_token_id
        cls_token_id mask_token_id unk_token_id decoder_start_token_id tie_word_embeddings tie_encoder_decoder
        output_past output_attentions output_hidden_states return_dict use_return_dict torchscript use_bfloat16
        directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
        pooler_hidden_size pooler_dropout pooler_hidden_act summary_activation summary_last_dropout summary_type
        summary_use_proj summary_first_dropout summary_proj_to_labels classifier_dropout classifier_dropout_prob
        classifier_pooling classifier_bias classifier_activation cls_dropout hidden_dropout attention_dropout
        seq_classif_dropout qa_dropout initializer_range initializer_factor initializer_cutoff_factor reference_compile
        repad_logits_with_grad sparse_prediction sparse_pred_ignore_index sparse_loss decoder_bias
        deterministic_flash_attn n_positions model_max_length max_length min_length do_sample early_stopping num_beams
        temperature top_k top_p repetition_penalty length_penalty no_repeat_ngram_size use_memory_efficient_attention
        unpad_inputs gap_size num_memory_blocks net_structure_type emb_pooler sentence_transformers sinusoidal_pos_embds
        scale_decoder_outputs
        """,
    ),
    "position_embedding_type": ("absolute",),
    "quantization_config": (),
}
"""Keys of config.json that the model's own code does not read; what it reads is kept, for it is traced."""
_READ: dict[str, Rule] = {"chunk_size_feed_forward": (0, 1)}  # else only lengths that are its multiples are computed
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_IDLE_ARGUMENTS = ("trust_remote_code", "add_pooling_layer")  # code of the model's own is never run; poolers are unused
_MODULES = {"Pooling": POOLING, "Dense": DENSE, "Normalize": NORMALIZE}
_TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    *(f"sentence_{kind}_config.json" for kind in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta")),
    "sentence_xlnet_config.json",
)


def check_module_settings(folder: Path) -> None:
    """Refuse what a model's folder states of its modules and cannot be kept: ModelError, with file, key and values."""
    check(folder / "config_sentence_transformers.json", USAGE)
    stated = _read(folder / "config_sentence_transformers.json").get("truncate_dim")
    if stated is not None and (type(stated) is not int or stated < 1):
        path = folder / "config_sentence_transformers.json"
        raise ModelError(f"{path}: truncate_dim = {stated!a:.40}: must be a whole number from 1")
    for index, entry in enumerate(read_json(folder / "modules.json")):
        check_stated(folder / "modules.json", entry, ENTRY)
        kind = entry["type"].rpartition(".")[2]
        if index == 0:
            for name in _TRANSFORMER_FILES:
                check(folder / entry["path"] / name, TRANSFORMER)
        elif kind in _MODULES:
            check(folder / entry["path"] / "config.json", _MODULES[kind])
        if kind == "Dense":
            _check_activation(folder / entry["path"] / "config.json")


def check_transformer_settings(folder: Path, tokenizer: Any, transformer: Any) -> None:
    """Refuse what a transformer's folder states of tokenizer and model and the opened ones do not do: ModelError.

    What the tokenizer's class takes, and what the model's own code reads, is kept besides the table.
    """
    kinds: tuple[Any, ...] = type(tokenizer).__mro__
    taken = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
    known = {name: KEPT for name in taken} | TOKENIZER
    alone = _read(folder / "sentence_bert_config.json").get("modality_config") in TRANSFORMER["modality_config"]
    if alone:  # no text goes through it
        known["chat_template"] = NO_MATTER
    stated = _read(folder / "tokenizer_config.json")
    known |= {key: KEPT for key in stated if key.endswith(("_token", "_token_id")) or key.startswith("_")}
    check_stated(folder / "tokenizer_config.json", stated, known)
    if getattr(tokenizer, "chat_template", None) and not alone:  # it may lie in a file of its own
        raise ModelError(
            f"{folder}: chat_template: sentence-transformers puts texts through it, which a graph cannot; take it out, "
            "or state in sentence_bert_config.json the modality_config of text alone, if the model was trained without"
        )
    if missing := {"input_ids", "attention_mask"} - set(tokenizer.model_input_names):
        path = folder / "tokenizer_config.json"
        raise ModelError(f"{path}: model_input_names: {', '.join(sorted(missing))} must be among them")
    stated, config = _read(folder / "config.json"), type(transformer.config)
    usual, code = config(), inspect.getsource(inspect.getmodule(type(transformer)) or type(transformer))
    read = set(re.findall(r"\w+", code)) | set(config.attribute_map)
    known = {key: KEPT for key in stated if hasattr(usual, key) or key in read}
    check_stated(folder / "config.json", stated, CONFIG | known | _READ)
    if transformers.__version__.startswith("4."):
        _check_rotation(folder / "config.json", stated.get("rope_parameters") or {}, transformer.config)


def _check_rotation(path: Path, stated: Any, config: Any) -> None:
    """Refuse how positions are turned where it is stated as transformers 5 writes it, and 4 computes another."""
    theta = getattr(config, "rope_theta", None)
    local = getattr(config, "rope_local_base_freq", None) or getattr(config, "local_rope_theta", None) or theta
    layers = stated if any(isinstance(value, dict) for value in stated.values()) else {"full_attention": stated}
    for kind, turned in layers.items():
        usual = {"rope_theta": local if kind == "sliding_attention" else theta, "rope_type": "default"}
        if not isinstance(turned, dict) or any(usual.get(name) != value for name, value in turned.items()):
            raise ModelError(f"{path}: rope_parameters = {stated!a:.80}: transformers 4 reads rope_theta; state it so")


def check(path: Path, table: Mapping[str, Rule]) -> None:
    """Refuse a key of a settings file that is not taken, or not with its value; a file that is not there says none."""
    check_stated(path, _read(path), table)


def check_stated(path: Path, stated: Mapping[str, Any], table: Mapping[str, Rule]) -> None:
    for key, value in stated.items():
        rule = table.get(key)
        if key in _ARGUMENTS and isinstance(value, dict):
            value = {name: given for name, given in value.items() if name not in _IDLE_ARGUMENTS}
        if rule in (KEPT, NO_MATTER) or _says_nothing(value) or (isinstance(rule, tuple) and value in rule):
            continue
        if rule is None:
            raise ModelError(
                f"{path}: {key} = {value!a:.80}: not known, so it cannot be kept; take it out if it changes nothing"
            )
        allowed = " or ".join(f"{choice!a}" for choice in rule) or "left out"
        raise ModelError(f"{path}: {key} = {value!a:.80}: cannot be kept; it must be {allowed}")


def _says_nothing(value: Any) -> bool:
    """Tell whether a value is none, false or empty, as an object of empty objects is."""
    if isinstance(value, dict):
        return all(isinstance(entry, dict) and _says_nothing(entry) for entry in value.values())
    return value is None or value is False or value in ("", [])


def _check_activation(path: Path) -> None:
    """Refuse what sentence-transformers takes a hyperbolic tangent for: it opens no activation but torch's."""
    name = _read(path).get("activation_function")
    if name is not None and not (isinstance(name, str) and name.startswith("torch.")):
        raise ModelError(f"{path}: activation_function = {name!a:.80}: must be one of torch's, such as torch.nn.Tanh")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        stated = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(stated, dict):
        raise ModelError(f"{path}: must be an object")
    return stated
