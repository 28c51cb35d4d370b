"""State seen from outside, over HTTP, by clients near and far and from the command line; keys of requests; the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from click.testing import CliRunner

from actorflow import App, Client, InvalidItemError, Operator, UnknownStreamError
from actorflow.cli import main
from actorflow.gateway import Gateway, serving
from actorflow.local import LocalConnection
from actorflow.stores import MemoryStore, Store, open_store
from tests.e2e import HERE
