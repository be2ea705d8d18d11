"""Turns a source of rows into train and eval sets that can be trusted."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from components.prepare_dataset.chunk import Chunker
from components.prepare_dataset.config import DataConfig
from components.prepare_dataset.lengths import LengthMeter, Side, token_counter
from components.prepare_dataset.readers import Outcome
from components.prepare_dataset.records import Problem, Record
from components.prepare_dataset.report import DatasetReport, RowCounts, SourceReport
from components.prepare_dataset.shapes import Layout, content_of, find_layout
from components.prepare_dataset.sources import Source, find_source
from components.prepare_dataset.split import Fingerprint, Splitter
from components.shared import progress
from components.shared.errors import DatasetError
from components.shared.models import load_tokenizer
from components.shared.rows import Row, RowWriter
