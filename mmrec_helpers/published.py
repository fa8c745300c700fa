"""Tables of the papers that the chapters check, as printed; no number here is ours."""


def _rows(columns: str, lines: str, unit: float = 1.0) -> dict[str, dict[str, float]]:
    """System -> metric -> number of a printed table, times ``unit``; "~" stands for a blank in a name."""
    rows = {}
    for line in lines.strip().splitlines():
        system, *numbers = line.split()
        scaled = (round(float(number) * unit, 6) for number in numbers)
        rows[system.replace("~", " ")] = dict(zip(columns.split(), scaled, strict=True))
    return rows


PUBLISHED = {
    "MM-GPT2Rec": _rows(
        "HR@5 P@5 NDCG@5 MRR MAP@5 coverage diversity novelty",
        """
        MM-GPT2Rec 0.833 0.297 0.220 0.207 0.113 0.715 0.749 -11.042
        VBPR 0.456 0.455 0.456 0.455 0.457 0.314 0.793 -8.072
        DeepCoNN 0.456 0.455 0.456 0.455 0.457 0.367 0.793 -8.088
        NRMF 0.455 0.455 0.456 0.455 0.457 0.310 0.793 -8.086
        SASRec 0.456 0.455 0.456 0.455 0.457 0.405 0.793 -8.066
        Content-Based 0.080 0.066 0.129 0.075 0.033 0.267 1.000 -3.275
        Matrix~Factorization 0.093 0.020 0.039 0.064 0.010 0.056 0.992 -4.677
        Hybrid 0.080 0.020 0.051 0.073 0.010 0.242 0.953 -3.528
        Collaborative~Filtering 0.011 0.002 0.007 0.007 0.001 0.008 0.907 -3.756
        Popularity 0.034 0.007 0.006 0.010 0.002 0.000 0.000 -6.237
        """,
    ),
    "MLLM-MSR, MicroLens": _rows(
        "AUC HR@5 MRR@5",
        """
        GRU4Rec 72.55 53.32 33.36
        SASRec 74.02 58.88 36.57
        MGAT 71.23 42.37 30.84
        MMGCN 73.35 54.47 34.14
        GRU4Rec_F 75.31 60.28 33.25
        SASRec_F 77.69 63.03 37.42
        MMSR 78.87 69.85 55.21
        Trans2D 70.23 51.91 31.21
        LLaVA 52.75 28.21 17.33
        TALLRec 81.25 71.23 58.22
        MLLM-MSR 83.17 78.23 60.38
        """,
        0.01,
    ),
    "MLLM-MSR, Games": _rows(
        "HR@5 MRR@5",
        """
        GRU4Rec 59.32 34.56
        SASRec 43.81 23.94
        MGAT 48.71 32.17
        MMGCN 55.63 35.19
        GRU4Rec_F 62.38 36.39
        SASRec_F 66.64 43.55
        MMSR 71.95 56.52
        Trans2D 56.70 39.28
        LLaVA 33.24 18.73
        TALLRec 72.36 57.38
        MLLM-MSR 77.42 63.25
        """,
        0.01,
    ),
    "MLLM-MSR, Baby": _rows(
        "HR@5 MRR@5",
        """
        GRU4Rec 58.21 35.81
        SASRec 70.09 52.34
        MGAT 46.42 31.92
        MMGCN 57.13 36.13
        GRU4Rec_F 63.84 35.77
        SASRec_F 72.08 58.32
        MMSR 70.34 56.38
        Trans2D 28.94 45.91
        LLaVA 34.82 20.96
        TALLRec 74.31 60.15
        MLLM-MSR 79.58 63.77
        """,
        0.01,
    ),
}
"""Paper and data -> system -> metric -> number, a share of 1: table I of {cite}`olaniyi_mmgpt2rec`, table 3 of
{cite}`ye2025mllmmsr` (whose AUC is kept for MicroLens only)."""
LAST_DIGIT = {"MM-GPT2Rec": 1e-3, "MLLM-MSR, MicroLens": 1e-4, "MLLM-MSR, Games": 1e-4, "MLLM-MSR, Baby": 1e-4}
"""What the last printed digit of PUBLISHED's tables is worth."""
