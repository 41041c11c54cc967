"""A real Jupyter server with the extension, on the loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_jupyter.jupyter_core import (
    echo_kernel_spec as echo_kernel_spec,
    jp_config_dir as jp_config_dir,
    jp_data_dir as jp_data_dir,
    jp_env_config_path as jp_env_config_path,
    jp_env_jupyter_path as jp_env_jupyter_path,
    jp_environ as jp_environ,
    jp_home_dir as jp_home_dir,
    jp_kernel_dir as jp_kernel_dir,
    jp_runtime_dir as jp_runtime_dir,
    jp_system_config_path as jp_system_config_path,
    jp_system_jupyter_path as jp_system_jupyter_path,
)
from pytest_jupyter.jupyter_server import (
    jp_argv as jp_argv,
    jp_auth_header as jp_auth_header,
    jp_base_url as jp_base_url,
    jp_configurable_serverapp as jp_configurable_serverapp,
    jp_create_notebook as jp_create_notebook,
    jp_fetch as jp_fetch,
    jp_http_port as jp_http_port,
    jp_logging_stream as jp_logging_stream,
    jp_nbconvert_templates as jp_nbconvert_templates,
    jp_root_dir as jp_root_dir,
    jp_server_cleanup as jp_server_cleanup,
    jp_serverapp as jp_serverapp,
    jp_template_dir as jp_template_dir,
    jp_web_app as jp_web_app,
    jp_ws_fetch as jp_ws_fetch,
)
from pytest_jupyter.pytest_tornasync import (
    http_server as http_server,
    http_server_client as http_server_client,
    http_server_port as http_server_port,
    io_loop as io_loop,
)

from nbcompose._jupyter.app import NbcomposeExtension
from nbcompose._jupyter.finding import Runtimes


@pytest.fixture
async def jp_asyncio_loop() -> asyncio.AbstractEventLoop:
    """The loop of the test: pytest-asyncio runs it, and pytest-jupyter's fixtures come to it."""
    return asyncio.get_running_loop()


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    """As a coming default of Jupyter's has it: a handler that does not authenticate is refused."""
    return {"ServerApp": {"jpserver_extensions": {"nbcompose": True}, "allow_unauthenticated_access": False}}


@pytest.fixture
async def runtimes(jp_serverapp: Any, jp_asyncio_loop: Any) -> AsyncIterator[Runtimes]:
    """What the server has found, after it has started."""
    [extension] = jp_serverapp.extension_manager.extension_apps["nbcompose"]
    assert isinstance(extension, NbcomposeExtension)
    await extension._start_jupyter_server_extension(jp_serverapp)
    yield extension.runtimes
    await extension.stop_extension()
