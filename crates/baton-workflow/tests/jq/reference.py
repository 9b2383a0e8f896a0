"""Says what jq makes of expressions: a line of JSON in for each, a line of JSON out for each.

In: {"text": expression, "input": JSON text}. Out: the results of the expression as JSON texts, or null if it does not
compile. The library's own messages do not survive every value that an error may hold, so expressions catch their own.
"""

import json
import sys

import jq

for line in sys.stdin:
    case = json.loads(line)
    try:
        program = jq.compile(case["text"])
    except ValueError:
        results = None
    else:
        results = program.input_text(case["input"]).all()
    print(json.dumps(results), flush=True)
