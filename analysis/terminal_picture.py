"""Turn captured terminal text (with its colours) into an SVG picture.

tmux new-session -d -s run -x 100 -y 30 'gsvae-tune run; sleep 60'
sleep 45; tmux capture-pane -e -p -t run | python analysis/terminal_picture.py TITLE OUT.svg
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

title, out = sys.argv[1:]
lines = sys.stdin.read().rstrip().splitlines()
console = Console(record=True, width=100, file=io.StringIO())
for line in lines:
    console.print(Text.from_ansi(line.rstrip()))
svg = console.export_svg(title=title)
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no font from the network
Path(out).write_text(svg, encoding="utf-8")
