"""Says what jq makes of expressions: a line of JSON in for each, a line of JSON out for each.

In: {"text": expression, "input": JSON text}. Out: the results of the expression as JSON texts, or null if it does not
compile. The library's own messages do not survive every value that an error may hold, so expressions catch their own.
An expression that takes too much time or memory ends the process.
"""

import json
import resource
import signal
import sys

import jq

SECONDS = 5
BYTES = 1 << 30

resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGALRM, signal.SIG_DFL)

for line in sys.stdin:
    signal.alarm(SECONDS)
    case = json.loads(line)
    try:
        program = jq.compile(case["text"])
    except ValueError:
        results = None
    else:
        results = program.input_text(case["input"]).all()
    signal.alarm(0)
    print(json.dumps(results), flush=True)
