"""temporary"""


def custom_section(module: bytes, name: str) -> bytes | None:
    def leb(at):
        value = shift = 0
        while True:
            if at >= len(module) or shift > 35:
                raise ValueError("cut short")
            b = module[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value, at

    at = 8
    while at < len(module):
        kind = module[at]
        size, at = leb(at + 1)
        end = at + size
        if end > len(module):
            raise ValueError("cut short")
        if kind == 0:
            n, s = leb(at)
            if module[s : s + n] == name.encode():
                return module[s + n : end]
        at = end
    return None
