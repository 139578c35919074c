"""Minimax polynomial coefficients of the vector functions.

Each row was fitted by `tools/fit_polynomials.py` (weighted Remez exchange; that script states the functions); a test
fits some of them again and compares. Coefficients are hexadecimal floats, exact in the row's format, lowest power
first. `log2_error` is the largest weighted approximation error after the coefficients were rounded; the rounding of
the evaluation comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Polynomial:
    """A fitted polynomial: what it approximates, where (in its own variable), how well, and its coefficients.
    """

    meaning: str
    interval: tuple[float, float]
    weight: str
    log2_error: float
    coefficients: tuple[float, ...]


def _hex(*texts: str) -> tuple[float, ...]:
    return tuple(float.fromhex(text) for text in texts)


POLYNOMIALS: Final[Mapping[str, Polynomial]] = {
    "exp_f32": Polynomial(
        meaning="exp(r) = 1 + r + r^2 q(r)",
        interval=(-0.34674687707511265, 0.34674687707511265),
        weight="relative to exp(r)",
        log2_error=-28.22,
        coefficients=_hex(
            "0x1.fffffc0000000p-2", "0x1.55548c0000000p-3", "0x1.5558580000000p-5",
            "0x1.123df20000000p-7", "0x1.6ac8600000000p-10",
        ),
    ),
    "expm1_f32": Polynomial(
        meaning="expm1(r) = r + r^2 q(r)",
        interval=(-0.34674687707511265, 0.34674687707511265),
        weight="relative to expm1(r)",
        log2_error=-31.01,
        coefficients=_hex(
            "0x1.0000000000000p-1", "0x1.5555540000000p-3", "0x1.5554ea0000000p-5",
            "0x1.1113aa0000000p-7", "0x1.6d4c860000000p-10", "0x1.9c64fa0000000p-13",
        ),
    ),
    "exp_f64": Polynomial(
        meaning="exp(r) = 1 + r + r^2 q(r)",
        interval=(-0.34674687707511265, 0.34674687707511265),
        weight="relative to exp(r)",
        log2_error=-56.46,
        coefficients=_hex(
            "0x1.0000000000009p-1", "0x1.5555555555558p-3", "0x1.55555555503a0p-5",
            "0x1.111111110f7efp-7", "0x1.6c16c18611db9p-10", "0x1.a01a01b015fc1p-13",
            "0x1.a019938664e2bp-16", "0x1.71ddf69834cdap-19", "0x1.28b43b4f111dbp-22",
            "0x1.af635f16ead2dp-26",
        ),
    ),
    "expm1_f64": Polynomial(
        meaning="expm1(r) = r + r^2 q(r)",
        interval=(-0.34674687707511265, 0.34674687707511265),
        weight="relative to expm1(r)",
        log2_error=-56.21,
        coefficients=_hex(
            "0x1.0000000000001p-1", "0x1.5555555555557p-3", "0x1.5555555554d37p-5",
            "0x1.11111111100d9p-7", "0x1.6c16c16f0bdc7p-10", "0x1.a01a01abea3e2p-13",
            "0x1.a019f391b17cep-16", "0x1.71de022876a37p-19", "0x1.28022a3b99c6bp-22",
            "0x1.af4dffaf0b1cep-26", "0x1.e6321cdbdc2c5p-30",
        ),
    ),
    "log_f32": Polynomial(
        meaning="log(1+f) = f + f^2 (-1/2 + f P(f))",
        interval=(-0.25, 0.5),
        weight="relative to log(1+f)",
        log2_error=-26.53,
        coefficients=_hex(
            "0x1.5555a40000000p-2", "-0x1.0000400000000p-2", "0x1.9969b00000000p-3",
            "-0x1.54efd20000000p-3", "0x1.28846e0000000p-3", "-0x1.0d8ada0000000p-3",
            "0x1.ac92960000000p-4", "-0x1.71438e0000000p-5",
        ),
    ),
    "log_f64": Polynomial(
        meaning="2 atanh(s) = 2s + s^3 R(s^2), s = f/(2+f)",
        interval=(0.0, 0.04004001),
        weight="relative to log(1+f)",
        log2_error=-62.66,
        coefficients=_hex(
            "0x1.555555555554fp-1", "0x1.999999999c17ap-2", "0x1.24924921e4397p-2",
            "0x1.c71c748fd7f91p-3", "0x1.745c4ad3f2846p-3", "0x1.3b35c20c8704cp-3",
            "0x1.0dcb7be27d414p-3", "0x1.1b826258c9691p-3",
        ),
    ),
    "log_tail_f64": Polynomial(
        meaning="2 atanh(s) = 2s + 2/3 s^3 + s^5 T(s^2): for the double-double log of pow",
        interval=(0.0, 0.04004001),
        weight="relative to log(1+f)",
        log2_error=-72.21,
        coefficients=_hex(
            "0x1.999999999999ap-2", "0x1.2492492492358p-2", "0x1.c71c71c73c97bp-3",
            "0x1.745d17386b07bp-3", "0x1.3b13b4ee3422fp-3", "0x1.1110505fec0fap-3",
            "0x1.e219be7e03bd5p-4", "0x1.a9f6bc901d2c0p-4", "0x1.ca80d0db74127p-4",
        ),
    ),
    "sin_f32": Polynomial(
        meaning="sin(r) = r + r^3 S(r^2)",
        interval=(0.0, 0.6174672795557218),
        weight="relative to sin(r)",
        log2_error=-27.90,
        coefficients=_hex(
            "-0x1.5555460000000p-3", "0x1.1107760000000p-7", "-0x1.9952f80000000p-13",
        ),
    ),
    "cos_f32": Polynomial(
        meaning="cos(r) = 1 - r^2/2 + r^4 C(r^2)",
        interval=(0.0, 0.6174672795557218),
        weight="relative to cos(r)",
        log2_error=-32.99,
        coefficients=_hex(
            "0x1.55554a0000000p-5", "-0x1.6c0c280000000p-10", "0x1.99e80c0000000p-16",
        ),
    ),
    "sin_f32_wide": Polynomial(
        meaning="sin(r) = r + r^3 S(r^2); for float32 results computed in float64",
        interval=(0.0, 0.6174672795557218),
        weight="relative to sin(r)",
        log2_error=-37.49,
        coefficients=_hex(
            "-0x1.5555554c68fd4p-3", "0x1.11110863d8ab1p-7", "-0x1.a00f79d31fc9ep-13",
            "0x1.6cd0a9b6a6b13p-19",
        ),
    ),
    "cos_f32_wide": Polynomial(
        meaning="cos(r) = 1 - r^2/2 + r^4 C(r^2); for float32 results computed in float64",
        interval=(0.0, 0.6174672795557218),
        weight="relative to cos(r)",
        log2_error=-33.00,
        coefficients=_hex(
            "0x1.55554a07b7804p-5", "-0x1.6c0c2dc3ead86p-10", "0x1.99e9e9efa7acfp-16",
        ),
    ),
    "sin_f64": Polynomial(
        meaning="sin(r) = r + r^3 S(r^2)",
        interval=(0.0, 0.6174672795557218),
        weight="relative to sin(r)",
        log2_error=-57.89,
        coefficients=_hex(
            "-0x1.5555555555548p-3", "0x1.111111110f730p-7", "-0x1.a01a019be91edp-13",
            "0x1.71de35552731ap-19", "-0x1.ae5e4b7fb1781p-26", "0x1.5d8b5430cdc37p-33",
        ),
    ),
    "cos_f64": Polynomial(
        meaning="cos(r) = 1 - r^2/2 + r^4 C(r^2)",
        interval=(0.0, 0.6174672795557218),
        weight="relative to cos(r)",
        log2_error=-63.24,
        coefficients=_hex(
            "0x1.5555555555553p-5", "-0x1.6c16c16c15ea8p-10", "0x1.a01a019dcb855p-16",
            "-0x1.27e4f8bc98501p-22", "0x1.1eea586e98b8ap-29", "-0x1.8fe18625ca2d7p-37",
        ),
    ),
    "atan_f32_wide": Polynomial(
        meaning="atan(t) = t + t^3 A(t^2)",
        interval=(0.0, 0.17165866169143681),
        weight="relative to atan(t)",
        log2_error=-35.35,
        coefficients=_hex(
            "-0x1.555554c598adcp-2", "0x1.999918531c365p-3", "-0x1.247ed14e7aedap-3",
            "0x1.c4631382ec274p-4", "-0x1.5b2ad5b2a2b7dp-4", "0x1.848b28e77717ap-5",
        ),
    ),
    "atan_f64": Polynomial(
        meaning="atan(t) = t + t^3 A(t^2)",
        interval=(0.0, 0.17165866169143681),
        weight="relative to atan(t)",
        log2_error=-59.40,
        coefficients=_hex(
            "-0x1.555555555553cp-2", "0x1.999999999564fp-3", "-0x1.24924922a0748p-3",
            "0x1.c71c70e10e3a7p-4", "-0x1.745cf84c91139p-4", "0x1.3b110f155339fp-4",
            "-0x1.10eb45bc82e32p-4", "0x1.df08beb9a15c5p-5", "-0x1.9cb50c2e99f1ap-5",
            "0x1.3789bb1502113p-5", "-0x1.24c3094c26b2ap-6",
        ),
    ),
    "tanh_f32": Polynomial(
        meaning="tanh(x) = x + x^3 T(x^2)",
        interval=(0.0, 0.391876),
        weight="relative to tanh(x)",
        log2_error=-27.72,
        coefficients=_hex(
            "-0x1.5555320000000p-2", "0x1.1106f60000000p-3", "-0x1.b835a60000000p-5",
            "0x1.51f8ec0000000p-6", "-0x1.750dba0000000p-8",
        ),
    ),
    "softplus_f32": Polynomial(
        meaning="log1p(e) = e + e^2 P(e - 49/64), 0 <= e <= 1",
        interval=(-0.765625, 0.234375),
        weight="relative to log1p(e)",
        log2_error=-29.83,
        coefficients=_hex(
            "-0x1.5859620000000p-2", "0x1.1c09fe0000000p-3", "-0x1.fdd2820000000p-5",
            "0x1.dfc9160000000p-6", "-0x1.d174c40000000p-7", "0x1.cacf940000000p-8",
            "-0x1.e1c7380000000p-9", "0x1.139d320000000p-9", "0x1.c5a9c40000000p-12",
            "0x1.00ba960000000p-9",
        ),
    ),
    "exp2_f32_wide": Polynomial(
        meaning="2^r, for float32 results computed in float64",
        interval=(-0.5, 0.5),
        weight="relative to 2^r",
        log2_error=-29.01,
        coefficients=_hex(
            "0x1.0000000261190p+0", "0x1.62e430c7eac83p-1", "0x1.ebfbdadd0eb89p-3",
            "0x1.c6aed4b94f3adp-5", "0x1.3b2dbb829d627p-7", "0x1.5f456a813b852p-10",
            "0x1.41d35ce514e28p-13",
        ),
    ),
    "log2_f32_wide": Polynomial(
        meaning="log2(1+f) = f L(f), for float32 results computed in float64",
        interval=(-0.25, 0.5),
        weight="relative to log2(1+f)",
        log2_error=-35.81,
        coefficients=_hex(
            "0x1.71547652d005dp+0", "-0x1.715476560b1ddp-1", "0x1.ec709ccd99416p-2",
            "-0x1.71546f28ecca9p-2", "0x1.27772456e8840p-2", "-0x1.ec75766a095efp-3",
            "0x1.a6012360baeaap-3", "-0x1.70a5c1d64980ep-3", "0x1.48b5d6ab66d5cp-3",
            "-0x1.3193ffc1767abp-3", "0x1.1c3f7f8efa592p-3", "-0x1.a1f579368a0ecp-4",
            "0x1.37363bb431462p-5",
        ),
    ),
    "erf_small_f32": Polynomial(
        meaning="erf(x) = x + x P(x^2)",
        interval=(0.0, 0.8649),
        weight="relative to erf(x)",
        log2_error=-25.76,
        coefficients=_hex(
            "0x1.06eba60000000p-3", "-0x1.8126e20000000p-2", "0x1.ce19840000000p-4",
            "-0x1.b67bd00000000p-6", "0x1.46d8500000000p-8", "-0x1.386c940000000p-11",
        ),
    ),
    "erf_tail_f32": Polynomial(
        meaning="erf(x) = 1 - exp(-g(x - 0.0)), x > 0",
        interval=(0.92, 3.95),
        weight="erfc/erf: the error of g as it reaches erf",
        log2_error=-34.22,
        coefficients=_hex(
            "-0x1.6e5a040000000p-13", "0x1.2127e40000000p+0", "0x1.44460e0000000p-1",
            "0x1.bb83b60000000p-4", "-0x1.9b8da60000000p-6", "0x1.1158d60000000p-8",
            "-0x1.c788080000000p-12", "0x1.61d9de0000000p-16",
        ),
    ),
    "erf_small_f64": Polynomial(
        meaning="erf(x) = x + x P(x^2)",
        interval=(0.0, 1.0201),
        weight="relative to erf(x)",
        log2_error=-56.33,
        coefficients=_hex(
            "0x1.06eba8214db69p-3", "-0x1.812746b037a24p-2", "0x1.ce2f21a045769p-4",
            "-0x1.b82ce3134b1cfp-6", "0x1.565bcd2a7fd2ap-8", "-0x1.c02db8caccd40p-11",
            "0x1.f9a3ab986c623p-14", "-0x1.f4dbc8cf4f994p-17", "0x1.ba58b5f21a3e3p-20",
            "-0x1.62fa3272dcec1p-23", "0x1.0fbc510e677c6p-26", "-0x1.ae7555ce23a25p-30",
            "0x1.1be368571888ep-33",
        ),
    ),
    "erf_tail_f64": Polynomial(
        meaning="erf(x) = 1 - exp(-g(x - 2.5)), x > 0",
        interval=(-1.5, 3.45),
        weight="erfc/erf: the error of g as it reaches erf",
        log2_error=-59.19,
        coefficients=_hex(
            "0x1.f3a2dc8691b93p+2", "0x1.56925248da96dp+2", "0x1.e3460a18c5892p-1",
            "0x1.63cc1da6ff842p-7", "-0x1.1bd558f47bab4p-9", "0x1.b9613993585e3p-12",
            "-0x1.43172bbd59bdcp-14", "0x1.ac03f9aab4db6p-17", "-0x1.dadeafca16bcfp-20",
            "0x1.4eca6e3f3e915p-23", "0x1.b1c7c7f585e93p-27", "-0x1.74cc7fe3881e1p-27",
            "0x1.e68283ce31d58p-29", "-0x1.e38982c633d0bp-31", "0x1.2d53c59d178aep-33",
            "-0x1.3574860e010a0p-36", "0x1.3c204271662cdp-37", "0x1.9f5e1265e4827p-41",
            "-0x1.27a4522faed1bp-40",
        ),
    ),
    "ndtr_f32": Polynomial(
        meaning="Phi(-t) = exp(-t^2/2) v H(v - 0.2265625), v = 1/(t + 3), t >= 0",
        interval=(-0.16875903179190752, 0.10677083333333333),
        weight="relative to H",
        log2_error=-28.94,
        coefficients=_hex(
            "0x1.e33b540000000p-1", "0x1.09268a0000000p+2", "0x1.370a060000000p+3",
            "0x1.551b2a0000000p+2", "-0x1.9825360000000p+4", "-0x1.5ad35c0000000p+4",
            "0x1.c2d3960000000p+6", "0x1.48b4b20000000p+2", "-0x1.28da8a0000000p+9",
            "0x1.5564100000000p+9", "0x1.a9892a0000000p+11",
        ),
    ),
    "ndtr_f64": Polynomial(
        meaning="Phi(-t) = exp(-t^2/2) v H(v - 0.0986328125), v = 1/(t + 4), t >= 0",
        interval=(-0.0752136087529274, 0.1513671875),
        weight="relative to H",
        log2_error=-58.59,
        coefficients=_hex(
            "0x1.490928867907ap-1", "0x1.de801f7d83ec9p+1", "0x1.2341fe08ae561p+4",
            "0x1.1d9b1855c2eefp+6", "0x1.9f09c178ccd20p+7", "0x1.5501d20505de2p+8",
            "-0x1.1b9d0051d7515p+8", "-0x1.8abd20ebf5e54p+11", "-0x1.0dc822c0b4a55p+12",
            "0x1.4742fc1a262f3p+14", "0x1.14db17dc51db8p+16", "-0x1.225375a14ca16p+17",
            "-0x1.bc5edee3c5a77p+19", "0x1.56cff84d5035ep+20", "0x1.679f3d3537813p+23",
            "-0x1.35638ef83c313p+24", "-0x1.2c6c8e20af628p+27", "0x1.831ffa360573ap+28",
            "0x1.d8b3ae1b04c42p+30", "-0x1.15a59ea7b8c5fp+33", "-0x1.41ce314eff739p+33",
            "0x1.2c52cda0f7702p+37", "-0x1.9320d815f00b6p+38", "0x1.812f693f834a4p+38",
        ),
    ),
}
