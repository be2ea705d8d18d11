from loraline.artifacts.dataset_files import RowSet
from loraline.data.fingerprint import Fingerprint


def test_the_fingerprint_does_not_depend_on_order() -> None:
    def of(*rows: tuple[RowSet, str]) -> str:
        fingerprint = Fingerprint()
        for row_set, row_id in rows:
            fingerprint.add(row_set, row_id)
        return fingerprint.hexdigest()

    assert of(("train", "a"), ("eval", "b")) == of(("eval", "b"), ("train", "a"))
    others = [(("train", "b"), ("eval", "a")), (("train", "a"),), (("train", "a"), ("train", "b"))]
    assert len({of(*rows) for rows in others} | {of(("train", "a"), ("eval", "b"))}) == 4
