"""One graph from a text to its vector: the tokenizer as an operator of onnxruntime-extensions."""

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from compressor.artifact.folder import Artifact, Draft
from compressor.core.errors import ArtifactError, installed
from exporters.pack.target import TOKENIZER_FILES, Contents, Target, copy_files, write_text
from exporters.session import OnnxEncoder

Tokenize = Callable[[str], Sequence[int]]

MODEL = "model.onnx"
CHARACTERS = "characters.json"
GUARD = "text_holds_a_character_or_special_token_that_its_tokenizer_reads_otherwise"
DOMAIN = "ai.onnx.contrib"
HARD = (
    "",
    " ",
    "a",
    "The cat sat on the mat, quickly.",
    "   many    spaces   ",
    "tab\tnew line\nreturn\r\nform feed\x0c",
    "no\u00a0break\u2003em\u3000wide",
    "Don't stop -- it's 100% (really); e-mail: a.b+c@example.com/path?q=1&r=2#x",
    "“Quotes” ‘single’ «guillemets» — dash – dash … ¡hola! ¿qué?",
    "a" * 100,
    "a" * 101,
    "a" * 1000,
    "word " * 10_000,
    "supercalifragilisticexpialidocious " * 300,
    "Café naïve Ångström résumé São Tomé",
    "cafe\u0301 n\u0303 A\u030a",
    "Great 👍🏽 day 👨\u200d👩\u200d👧 🇩🇪 ❤\ufe0f",
    "שלום עולם",
    "مرحبا بالعالم، كيف حالك؟",
    "\u200fmixed \u202bright\u202c left\u200e",
    "你好，世界。日本語のテスト",
    "한국어 텍스트",
    "Tiếng Việt Đặng",
    "İstanbul ISPARTA ı",
    "STRASSE ß ẞ Äpfel ŁÓDŹ",
    "ΑΘΗΝΑ Άνθρωπος ὕπνος σς",
    "Ёлка Йод ПРИВЕТ й",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया",
    "bell\x07 escape\x1b delete\x7f next\x85line",
    "soft\u00adhyphen zero\u200bwidth mark\ufeff replaced\ufffd",
    "line\u2028paragraph\u2029end",
    "private\ue000use \U000f0000 unassigned\u0378",
    "𝐇𝐞𝐥𝐥𝐨 ½ ² ﬁ Ⅷ ＡＢＣ １２３ ！",
    "𠮷 㐀 豈 a𠀀b",
    "[CLS] of [SEP] the [PAD] kinds [MASK] that [UNK] are <s> special </s>",
    "Hello 你好 שלום Café 👍 123.45% Привет",
)
_RANDOM_TEXTS = 2000
_SPECIAL = "special_tokens_map.json"
_BLOCK = 16  # characters compared at once


class TokenizerInGraph(Target):
    """One graph from a text to its vector, for runtimes that register onnxruntime-extensions."""

    restrict: bool = False
    """Where its tokenizer reads some characters otherwise, let the graph refuse texts with them at run time."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``model.onnx``: string ``text`` [1] in, float32 ``sentence_embedding`` [1, dim] out.

        ArtifactError, naming the first text, if the operator gives other ids than the artifact's tokenizer.
        """
        contents = Contents.read(artifact, "tokenizer-in-graph")
        installed("onnxruntime_extensions", "onnxruntime-extensions", "extensions")
        settings = contents.json("tokenizer.json")
        attributes = word_piece(contents, settings)
        encoder = OnnxEncoder(artifact.folder, threads=1)
        allowed: list[tuple[int, int]] | None = None
        if self.restrict:
            unlimited = _by_operator(_tokenizer_graph(attributes, "", None))
            pieces = Tokenizer.from_str(json.dumps(settings))
            alike = same_characters(unlimited, lambda text: encoder.tokenize([text])[0], encoder.prompt)
            allowed = _ranges(c for c in alike if is_spelt(chr(c), pieces))
        pattern = None if allowed is None else _forbidden(allowed, settings["added_tokens"])
        tokenizer = _tokenizer_graph(attributes | {"max_length": encoder.max_length}, encoder.prompt, pattern)
        _verify(artifact, _by_operator(tokenizer), encoder, allowed, pattern)
        whole = _join(contents, tokenizer)
        (draft.folder / MODEL).write_bytes(whole.SerializeToString(deterministic=True))
        copy_files(artifact, draft, TOKENIZER_FILES)
        if allowed is not None:
            shown = [[f"U+{first:04X}", f"U+{last:04X}"] for first, last in allowed]
            write_text(draft.folder / CHARACTERS, json.dumps(shown) + "\n")
            draft.figures["characters"] = sum(last - first + 1 for first, last in allowed)
        draft.figures["verified_texts"] = len(HARD) + (_RANDOM_TEXTS if allowed is not None else 0)
        extensions = version("onnxruntime-extensions")
        by = "the graph: the default one, and no other" if encoder.prompt else "the caller"
        draft.figures["needs"] = contents.needs(by, **{"onnxruntime-extensions": f">={extensions}", "domain": DOMAIN})


def word_piece(contents: Contents, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the operator's attributes for a tokenizer.json; ArtifactError for one that is not BERT's kind."""
    path = contents.folder / "tokenizer.json"
    model, normal = settings.get("model") or {}, settings.get("normalizer") or {}
    kinds = (model.get("type"), normal.get("type"), (settings.get("pre_tokenizer") or {}).get("type"))
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        listed = ", ".join(map(str, kinds))
        raise ArtifactError(f"{path}: {listed}; tokenizer-in-graph takes WordPiece, BertNormalizer, BertPreTokenizer")
    vocabulary = sorted(model["vocab"].items(), key=lambda item: item[1])
    if [number for _, number in vocabulary] != list(range(len(vocabulary))) or any(
        not token or "\n" in token for token, _ in vocabulary
    ):
        raise ArtifactError(f"{path}: its ids are not 0 to {len(vocabulary) - 1}, one a line; the operator wants that")
    if late := [token["content"] for token in settings["added_tokens"] if token["normalized"]]:
        raise ArtifactError(f"{path}: finds {late[0]!r} in normalized text, which the operator does not")
    lower = bool(normal.get("lowercase"))
    strip = normal.get("strip_accents")
    return {
        "vocab_file": "\n".join(token for token, _ in vocabulary),
        "do_lower_case": int(lower),
        "strip_accents": int(lower if strip is None else strip),
        "tokenize_chinese_chars": int(bool(normal.get("handle_chinese_chars"))),
        "suffix_indicator": model["continuing_subword_prefix"],
        **_special_tokens(contents),
    }


def _special_tokens(contents: Contents) -> dict[str, str]:
    """Return the tokens that the operator puts around and in place of words; ArtifactError, naming it, without one."""
    path, stated = contents.folder / _SPECIAL, contents.json(_SPECIAL)
    named: dict[str, str] = {}
    for name in (f"{kind}_token" for kind in ("unk", "sep", "pad", "cls", "mask")):
        token = stated.get(name) if isinstance(stated, dict) else None
        token = token.get("content") if isinstance(token, dict) else token
        if not isinstance(token, str):
            raise ArtifactError(f"{path}: no {name}; tokenizer-in-graph takes a tokenizer of BERT's special tokens")
        named[name] = token
    return named


def same_characters(operator: Tokenize, tokenizer: Tokenize, prompt: str = "") -> list[int]:
    """Return the assigned characters that both read alike: alone, before, after and between letters."""
    assigned = [c for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs")]
    waiting = [assigned[i : i + _BLOCK] for i in range(0, len(assigned), _BLOCK)]
    alike: list[int] = []
    while waiting:
        block = waiting.pop()
        text = " ".join(f"{chr(c)} a{chr(c)} {chr(c)}a a{chr(c)}a" for c in block)
        # Both with no limit to their length; the prompt is the tokenizer's alone.
        if list(operator(prompt + text)) == list(tokenizer(text)):
            alike += block
        elif len(block) > 1:
            waiting += [block[: len(block) // 2], block[len(block) // 2 :]]
    return sorted(alike)


def is_spelt(character: str, tokenizer: Tokenizer) -> bool:
    """Tell whether a character stands alone or is a piece of any word.

    Where no piece fits, the operator keeps those before and the tokenizer gives up the whole word. Words of such
    characters always have pieces that fit, so that what holds for each holds for all texts of them.
    """
    read = tokenizer.normalizer.normalize_str(f"a{character}a")
    words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(read)]
    return all(
        len(word) == 1
        or None
        not in (tokenizer.token_to_id(c), tokenizer.token_to_id(f"{tokenizer.model.continuing_subword_prefix}{c}"))
        for word in words
        for c in word
    )


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _forbidden(allowed: Sequence[tuple[int, int]], added: Sequence[dict[str, Any]]) -> str:
    """Return a pattern (RE2) of what a text may not hold: other characters, and special tokens written out."""
    inside = "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in allowed)
    return "|".join([f"[^{inside}]", *(re.escape(token["content"]) for token in added)])


def _tokenizer_graph(attributes: dict[str, Any], prompt: str, forbidden: str | None) -> onnx.ModelProto:
    """Return a graph from ``text`` [1] to what a BERT takes, int64 [1, tokens].

    With ``forbidden``, a text that matches it ends the run with an error at the node ``GUARD``.
    """
    nodes, stored, text = [], [], "text"
    if prompt:
        stored.append(_strings("prompt", prompt))
        nodes.append(helper.make_node("StringConcat", ["prompt", "text"], ["prompted"], domain=DOMAIN))
        text = "prompted"
    names = ("input_ids", "token_type_ids", "attention_mask")
    rows = [f"{name}_row" for name in names]
    nodes.append(helper.make_node("BertTokenizer", [text], rows, "tokenizer", domain=DOMAIN, **attributes))
    stored.append(helper.make_tensor("first_axis", TensorProto.INT64, [1], [0]))
    if forbidden is not None:
        stored.append(_strings("forbidden", forbidden))
        stored.append(_strings("nothing", ""))
        stored.append(helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
        operands = ["text", "forbidden", "nothing"]
        nodes += [
            helper.make_node("StringRegexReplace", operands, ["kept"], "kept", domain=DOMAIN),
            helper.make_node("StringEqual", ["text", "kept"], ["fine"], "fine", domain=DOMAIN),
            helper.make_node("Not", ["fine"], ["not_fine"], "not_fine"),
            helper.make_node("Cast", ["not_fine"], ["position"], "position", to=TensorProto.INT64),
            # Of one zero, there is no second: the only way that an ONNX graph can refuse its input.
            helper.make_node("Gather", ["zero", "position"], ["passed"], GUARD),
            helper.make_node("Add", [rows[0], "passed"], ["guarded"], "guarded"),
        ]
        rows[0] = "guarded"
    nodes += [helper.make_node("Unsqueeze", [row, "first_axis"], [n], n) for row, n in zip(rows, names, strict=True)]
    inputs = [helper.make_tensor_value_info("text", TensorProto.STRING, [1])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, "sequence_length"]) for n in names]
    graph = helper.make_graph(nodes, "tokenizer", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _strings(name: str, text: str) -> TensorProto:
    return onnx.numpy_helper.from_array(np.array([text], dtype=object), name)


def _by_operator(graph: onnx.ModelProto) -> Tokenize:
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda text: session.run(["input_ids"], {"text": np.array([text], dtype=object)})[0][0].tolist()


def _verify(
    artifact: Artifact,
    operator: Tokenize,
    encoder: OnnxEncoder,
    allowed: Sequence[tuple[int, int]] | None,
    pattern: str | None,
) -> None:
    """Compare ids text by text; with a restriction, what it forbids must be refused by the graph."""
    for text in HARD if allowed is None else (*HARD, *_random_texts(allowed)):
        expected = encoder.tokenize([text])[0]
        shown = json.dumps(text if len(text) <= 40 else text[:40] + "…", ensure_ascii=True)
        if pattern is not None and re.search(_python(pattern), text):
            if _refused(operator, text):
                continue
            raise ArtifactError(f"{artifact.folder}: text {shown}: forbidden, and the graph takes it")
        ids = list(operator(text))
        if ids != expected:
            at = next((i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), None)
            at = min(len(ids), len(expected)) if at is None else at
            hint = "; --restrict true makes a graph that refuses such texts" if allowed is None else ""
            raise ArtifactError(
                f"{artifact.folder}: text {shown}: BertTokenizer of onnxruntime-extensions gives other ids than"
                f" tokenizer.json, from token {at} on ({ids[at : at + 3]} and not {expected[at : at + 3]}){hint}"
            )


def _refused(operator: Tokenize, text: str) -> bool:
    try:
        operator(text)
    except Exception as error:  # ONNX Runtime raises its own kinds
        return GUARD in str(error)
    return False


def _python(pattern: str) -> str:
    """Return an RE2 pattern as Python writes it."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", pattern)


def _random_texts(allowed: Sequence[tuple[int, int]]) -> list[str]:
    """Return texts of allowed characters, so that it shows where one depends on its neighbours."""
    source = random.Random(0)
    characters = [chr(c) for first, last in allowed for c in range(first, last + 1)]
    marks = [c for c in characters if unicodedata.combining(c)] or characters
    latin = [c for c in characters if c < "\u0250"]
    pools = (characters, latin, [*latin, *marks], [*latin, " ", " "])
    return ["".join(source.choices(source.choice(pools), k=source.randint(1, 60))) for _ in range(_RANDOM_TEXTS)]


def _join(contents: Contents, tokenizer: onnx.ModelProto) -> onnx.ModelProto:
    """Put the tokenizer before the artifact's graph, which takes its names from it; only the vector comes out."""
    input_names = {tensor.name for tensor in contents.inputs}
    model = onnx.ModelProto()
    model.CopyFrom(contents.model)
    before = onnx.compose.add_prefix(tokenizer, "text_", rename_inputs=False, rename_outputs=False).graph
    graph = model.graph
    own = list(graph.node)
    del graph.node[:], graph.input[:]
    unused = {"input_ids", "token_type_ids", "attention_mask"} - input_names
    graph.node.extend(node for node in before.node if not unused & set(node.output))
    graph.node.extend(own)
    graph.initializer.extend(before.initializer)
    graph.input.extend(before.input)
    vector = [value for value in graph.output if value.name == "sentence_embedding"]
    del graph.output[:]
    graph.output.extend(vector)
    graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model
