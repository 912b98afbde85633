"""What the first bytes of a file tell: UTF-8 with or without its mark, another encoding, or no text at all."""

import codecs

_HEADS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "gzip",
    b"PAR1\x15": "Parquet",
    b"PK\x03\x04": "zip",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_WIDE, _LEAST = 64, 8  # bytes looked at for UTF-16 without its mark, and how many are needed to tell


def encoding_fault(head: bytes) -> str | None:
    """Say why a file that begins with ``head``, its first 64 bytes or more, is no UTF-8 text; None where it may be."""
    kind = next((name for mark, name in _HEADS.items() if head.startswith(mark)), None)
    if kind is None and _is_wide(head[:_WIDE]):
        kind = "UTF-16"
    if kind is None:
        return None
    return f"{kind}, not UTF-8; save it as that" if kind.startswith("UTF") else f"a {kind} file, whatever its name says"


def _is_wide(head: bytes) -> bool:
    """Tell UTF-16 without its mark, of letters below U+0100 mostly: every other byte is zero."""
    zeros = head[0::2].count(0), head[1::2].count(0)
    return len(head) >= _LEAST and max(zeros) > 0.7 * (len(head) // 2) and min(zeros) == 0
