"""What the first bytes of a file tell: UTF-8 with or without its mark, another encoding, or no text at all."""

import codecs

UTF8_MARK = codecs.BOM_UTF8
_HEADS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "gzip",
    b"PAR1": "Parquet",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_WIDE = 64  # bytes looked at for UTF-16 without its mark
_LEAST = 8  # of which so many are needed to tell


def fault(head: bytes) -> str | None:
    """Say why a file that begins with ``head``, 64 bytes or more of it, is no UTF-8 text; None where it may be."""
    kind = next((name for mark, name in _HEADS.items() if head.startswith(mark)), None)
    kind = kind or ("UTF-16" if _every_other_is_zero(head[:_WIDE]) else None)
    if kind is None:
        return None
    return (
        f"is {kind}; save it as UTF-8" if kind.startswith("UTF") else f"is a {kind} file, which its name does not say"
    )


def _every_other_is_zero(head: bytes) -> bool:
    """Tell UTF-16 of letters below U+0100, mostly."""
    zeros = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    return len(head) >= _LEAST and max(zeros) > 0.7 * half and min(zeros) == 0
