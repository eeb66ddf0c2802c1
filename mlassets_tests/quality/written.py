"""Texts for tests: notes of a maintenance crew about a few matters, and texts that mean harm."""

import numpy as np

MATTERS = {
    "engine": "engine oil pressure turbine vibration blade compressor borescope thrust bearing leak starter",
    "cabin": "seat belt tray table reading light armrest cushion curtain lavatory carpet window galley trolley",
    "wheels": "tyre wear brake pad hydraulic strut nose gear axle wheel pressure torque retraction door seal",
    "radio": "antenna static transponder frequency receiver headset squawk altimeter display software fuse",
}
AROUND = "found during the walk around and replaced by crew with new part tested and signed off as per manual"

HOSTILE = (
    "<script>document.title='owned'</script> <img src=x onerror=document.title='owned'> walked around",
    "</script><script>document.title='owned'</script> the engine was found <b>bold</b>",
    "<a href='javascript:document.title=1'>press here for the manual</a> and sign off",
    "turned \u202etxet siht lla\u202c around by a mark of direction, as found",
    "zero\u200bwidth and nul \x00 and escape \x1b[31mred\x1b[0m and a lost byte \ufffd",
    "Z"
    + "\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308" * 30
    + "algo piles up over the lines above it",
    '=HYPERLINK("http://example.org","press") is a formula in a spreadsheet',
    "{{ 7 * 7 }} ${7*7} %{x} {% raw %} are none of our templates",
    "発動機の油圧が低いため、始動装置を交換しました。試運転の結果は良好です。",
    "تم استبدال مضخة الزيت بعد الفحص اليومي وتم توقيع السجل",
    "long " * 3_000,
    "\U0001f6e9\ufe0f\U0001f468\u200d\U0001f527 fixed \U0001f44d\U0001f3fd",
)


def notes(count: int, matters: tuple[str, ...] = tuple(MATTERS), seed: int = 0) -> list[str]:
    """Notes, each about one of these matters in turn."""
    rng = np.random.default_rng(seed)
    written = []
    for i in range(count):
        words = [
            *rng.choice(MATTERS[matters[i % len(matters)]].split(), rng.integers(4, 9)),
            *rng.choice(AROUND.split(), 8),
        ]
        rng.shuffle(words)
        written.append(f"{' '.join(words).capitalize()} {rng.integers(10, 99)}.")
    return written
