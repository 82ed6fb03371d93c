#!/usr/bin/env python3
"""Answer `!time` in a room: bot.py ROOM"""

import json
import subprocess
import sys
import time

client = ["evloop-client", "--name", "bot"]
tail = subprocess.Popen([*client, "--json", "tail", sys.argv[1], "-n", "0"], stdout=subprocess.PIPE)
for line in tail.stdout:
    said = json.loads(line)
    if said["type"] == "message" and said["text"] == "!time":
        subprocess.run([*client, "say", sys.argv[1], time.strftime("It is %H:%M.")], check=False)
