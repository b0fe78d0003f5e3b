"""The Python interface over outputs without pictures: what it says of records, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from renderfarm import LogDamaged, Output, UserError
from renderfarm.log.writer import LogWriter
from renderfarm.output import part_key
from renderfarm.storage import LocalStorage
from tests.simulation.world import SIGNER
from tests.unit.test_writer import attempt, plan


def made(folder: Path, prompt: str = "a mug") -> Path:
    """An output of four parts."""
    writer = LogWriter.open(LocalStorage(folder, create=True), "mugs", SIGNER)
    for records in ([plan(3)], *([attempt(number, prompt=prompt)] for number in (1, 2, 3))):
        writer.append(records)
    return folder


def test_records_are_those_of_the_log_in_order(tmp_path: Path) -> None:
    table = Output(made(tmp_path)).records(["row_id", "prompt"]).to_table()
    assert table.column("row_id").to_pylist() == [None, "row 1", "row 2", "row 3"]
    with pytest.raises(UserError, match="no such column: promt"):
        Output(tmp_path).records(["promt"])


def test_a_folder_without_a_log_is_no_empty_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no log here"):
        Output(tmp_path).records()


def edited(path: Path) -> None:
    """One word in the rows, and the footer as it was."""
    table, footer = pq.read_table(path), pq.read_metadata(path).metadata
    at = table.schema.get_field_index("job")
    table = table.set_column(at, table.schema.field(at), pa.array(["cups"] * table.num_rows, table.schema.field(at).type))
    with pq.ParquetWriter(path, table.schema, write_statistics=False, write_page_checksum=True, store_schema=False) as file:
        file.write_table(table)
        file.add_key_value_metadata(footer)


def test_records_that_were_edited_are_none(tmp_path: Path) -> None:
    edited(made(tmp_path) / part_key(2))
    with pytest.raises(LogDamaged, match="record-altered"):
        Output(tmp_path).records(["row_id"])


def test_a_log_with_a_part_gone_or_of_another_log_is_none(tmp_path: Path) -> None:
    output, other = made(tmp_path / "a"), made(tmp_path / "b", prompt="a cup")
    (output / part_key(2)).write_bytes((other / part_key(2)).read_bytes())
    with pytest.raises(LogDamaged, match=r"00000002.*not those that it was appended to"):
        Output(output).records(["row_id"])
    (other / part_key(1)).unlink()
    with pytest.raises(LogDamaged, match=r"00000002.*not those that it was appended to"):
        Output(other).records(["row_id"])
