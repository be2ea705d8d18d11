"""The reports of a run that is right in every part, as its steps write them."""

import math

from loraline.artifacts.base import StepIdentity
from loraline.artifacts.dataset import (
    AnswerProblems,
    Contamination,
    ContentReport,
    DatasetReport,
    Duplicate,
    LengthReport,
    LengthStatistics,
    NearDuplicate,
    NearDuplicates,
    PersonalDataFindings,
    RowCounts,
    RowProblem,
    SourceReport,
    Truncation,
)
from loraline.artifacts.merging import GreedyReport, KlReport, MergeReport
from loraline.artifacts.training import MaskReport, MaskSample, MaskToken, PackingReport, StepMetrics, TrainReport

IDENTITY = StepIdentity(code="c" * 64, libraries={"torch": "2.13.0", "peft": "0.21.2"})


def training_report(steps: int = 180) -> TrainReport:
    """A training.json whose loss falls and whose gradient moves."""
    history = [StepMetrics(step=0, eval_loss=2.9)]
    for step in range(1, steps + 1):
        wobble = 0.12 * math.sin(step * 1.7) * math.exp(-step / 150)
        history.append(
            StepMetrics(
                step=step,
                loss=2.7 * math.exp(-step / 40) + 0.12 + wobble,
                learning_rate=2e-3 * min(1.0, step / 8) * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
                grad_norm=1.9 * math.exp(-step / 55) + 0.2 + abs(wobble),
                tokens_per_second=5200 + 240 * math.sin(step / 9),
                eval_loss=2.7 * math.exp(-step / 40) + 0.16 if step % 60 == 0 else None,
            )
        )
    return TrainReport(
        base_digest="b" * 64,
        quantization="none",
        packing=PackingReport(rows=8, max_difference=0.00002, tolerance=0.001),
        processes=1,
        steps=steps,
        planned_steps=steps,
        epochs=3.0,
        final_loss=history[-1].loss,
        best_eval_loss=history[-1].eval_loss,
        kept_step=steps,
        history=history,
        examples=900,
        truncated=0,
        dropped=0,
        tokens=188_400,
        labelled_tokens=61_020,
        padding_fraction=0.021,
        masked_fraction=0.676,
        tokens_per_second=5210.4,
        seconds=36.2,
        trainable_parameters=73_728,
        total_parameters=886_144,
        device="cpu",
        dtype="float32",
        attention="dense mask per row",
        adapted="q_proj (2), v_proj (2)",
        loss_head="labelled positions only",
        peak_memory_bytes=912_000_000,
        resumed_from=None,
        identity=IDENTITY,
    )


def mask_report(prompts: dict[str, str]) -> MaskReport:
    """A mask.json in which the answer carries loss.

    Args:
        prompts: digests of the prompts, by row id.
    """
    prompt = ["<s>", "<|user|>", "\n", "Write ", "this ", "date ", "in ", "words: ", "03", "/", "05", "<|assistant|>"]
    answer = ["the ", "third ", "of ", "May", "</s>"]
    prompt.append("\n")
    tokens = [
        MaskToken(text=text, loss=number >= len(prompt), special=text.startswith("<"), token_id=number)
        for number, text in enumerate([*prompt, *answer])
    ]
    sample = MaskSample(id="0" * 32, origin="builtin:dates:17", length=len(tokens), tokens=tokens)
    return MaskReport(masked_fraction=0.676, samples=[sample], prompts=prompts)


def merge_report(prompts: dict[str, str], adapter_digest: str, merged_digest: str) -> MergeReport:
    """A parity.json well within its thresholds.

    Args:
        prompts: digests of the prompts as served, by row id.
        adapter_digest: of the adapter that was merged.
        merged_digest: of the merged model.
    """
    return MergeReport(
        identity=IDENTITY,
        max_abs_logit_difference=0.0021,
        mean_abs_logit_difference=0.00013,
        kl_divergence=KlReport(mean=0.00001, p99=0.0002, max=0.0004),
        effect_kept=0.998,
        max_divergence=0.05,
        max_effect_change=0.02,
        greedy=GreedyReport(examples=8, tokens=180, equal=7, ties=1),
        prompts=prompts,
        quantized=None,
        max_adapter_effect=14.2,
        mean_adapter_effect=1.9,
        adapter_kl_divergence=KlReport(mean=0.7, p99=4.2, max=8.1),
        examples=16,
        positions=640,
        base_digest="b" * 64,
        adapter_digest=adapter_digest,
        merged_digest=merged_digest,
        merged_tensors=28,
        seconds=1.4,
    )


def contamination(held_out: int, ids: list[str] | None = None) -> Contamination:
    """So many held-out rows, of which those with these ids are copied in training rows."""
    found = ids or []
    return Contamination(
        n=8,
        eval_examples=held_out,
        contaminated=len(found),
        fraction=len(found) / held_out,
        ids=found,
        examples=[],
    )


def dataset_report(held_out: int) -> DatasetReport:
    """A dataset's report.json, with a row for each reason to drop one."""
    return DatasetReport(
        identity=IDENTITY,
        fingerprint="f" * 64,
        sources=[
            SourceReport(
                name="builtin:dates",
                bytes=None,
                row_format="prompt-completion",
                columns={"prompt": "prompt"},
                unused_columns=[],
                rows=910 + held_out,
                weight=1.0,
            )
        ],
        rows=RowCounts(
            read=910 + held_out,
            train=900,
            eval=held_out,
            bad=2,
            duplicates=5,
            prompt_overlap=3,
            near_duplicates=0,
            personal_data=0,
            policy=0,
            left_out=0,
        ),
        bad_fraction=0.002,
        notes=[],
        bad_kinds={"empty": 1, "type": 1},
        bad_rows=[
            RowProblem(file="a.jsonl", line=7, column="completion", kind="empty", reason="is empty"),
            RowProblem(file="a.jsonl", line=9, column="prompt", kind="type", reason="is 3, not a text"),
        ],
        duplicates=[Duplicate(origin="a.jsonl:12", other_origin="a.jsonl:3")],
        prompt_overlaps=[Duplicate(origin="a.jsonl:40", other_origin="a.jsonl:31")],
        lengths=LengthReport(
            edges={"prompt": [0, 4, 8, 12, 16, 20, 24], "completion": [0, 2, 4, 6, 8]},
            train={
                "prompt": _lengths([0, 40, 310, 340, 160, 40, 10]),
                "completion": _lengths([0, 20, 480, 350, 50]),
            },
            eval={"prompt": _lengths([0, 2, 13, 15, 7, 2, 1]), "completion": _lengths([0, 1, 20, 17, 2])},
        ),
        near_duplicates=NearDuplicates(
            similarity=0.85,
            action="report",
            within_train=3,
            within_eval=0,
            across=0,
            dropped=0,
            examples=[
                NearDuplicate(origin="a.jsonl:50", other_origin="a.jsonl:51", similarity=0.9, excerpt="Write this")
            ],
        ),
        contamination=contamination(held_out),
        personal_data=PersonalDataFindings(action="report", rows=0, dropped=0, counts={}, examples=[]),
        answers=AnswerProblems(
            empty=0,
            empty_origins=[],
            truncation=Truncation(max_length=512, rows=0, tokens_cut=0, rows_without_answer=0, examples=[]),
        ),
        content=ContentReport(rows=200, prompts=200, without_prompt=0, without_answer=0, examples=[]),
        policy=None,
        labels=None,
        general=None,
        samples={"train": [], "eval": []},
    )


def _lengths(histogram: list[int]) -> LengthStatistics:
    return LengthStatistics(rows=900, total=9000, min=4, median=9.0, mean=10.0, p95=17, max=23, histogram=histogram)
