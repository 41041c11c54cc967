#!/bin/sh
# Installs the wheel in dist/ into the virtual environment $1, in the place of the working tree, and has it serve.
set -eu
cd "$(dirname "$0")/.."
python=$PWD/$1/bin/python
"$python" -m pip --disable-pip-version-check install --quiet --no-deps --force-reinstall dist/*.whl
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cd "$elsewhere"
cat >app.py <<'END'
from nbcompose import api, service


@service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text
END
cat >call.py <<'END'
import re, signal, subprocess, sys, urllib.request

command = [f"{sys.prefix}/bin/nbcompose", "serve", "app.py", "--port", "0"]
with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as serving:
    try:
        assert serving.stdout is not None
        url = next(m[0] for line in serving.stdout if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
        request = urllib.request.Request(f"{url}/say", b'{"text": "hello"}', {"Content-Type": "application/json"})
        assert urllib.request.urlopen(request, timeout=60).read() == b'"hello"'
    finally:
        serving.send_signal(signal.SIGINT)
END
"$python" -I -c 'import nbcompose, os; assert "site-packages" in nbcompose.__file__, nbcompose.__file__'
"$python" call.py
# What follows is without Node: whoever installs the wheel needs none.
without_node=$(dirname "$python")
if [ -e "$without_node/node" ]; then
    echo "there is a Node in $without_node, and the wheel is to be tried without one" >&2
    exit 1
fi
# A Jupyter server in the same environment finds the extension, and can load it.
"$python" -m pip --disable-pip-version-check install --quiet 'jupyter-server>=2.15,<3'
said=$(PATH=$without_node "$python" -m jupyter server extension list 2>&1)
if ! echo "$said" | grep -q 'nbcompose.*enabled' || ! echo "$said" | grep -q 'nbcompose.*OK'; then
    echo "$said" >&2
    echo "jupyter server extension list does not say that nbcompose is enabled and OK" >&2
    exit 1
fi
# JupyterLab has the extension. (Where it is and that it is enabled is said by JupyterLab itself.)
"$python" -m pip --disable-pip-version-check install --quiet 'jupyterlab>=4.3,<5'
said=$(PATH=$without_node "$python" -m jupyter labextension list 2>&1)
if ! echo "$said" | grep -q 'nbcompose v.*enabled.*OK'; then
    echo "$said" >&2
    echo "jupyter labextension list does not say that nbcompose is enabled and OK" >&2
    exit 1
fi
echo "==> $(cd "$OLDPWD/dist" && echo *.whl) serves, and Jupyter has its extensions"
