"""Predictors in a forked process, and after the end of the main thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hub_helpers import run_python

CAT = Path(__file__).parents[2] / "examples" / "cat.jpg"

LATE = """
import sys, threading, time
import mdan_zoo, mdan_zoo.inference.explanation
image = sys.argv[1]
predictor = mdan_zoo.Predictor("mdan_oasis4", device="cpu")

def work():
    threading.main_thread().join()
    time.sleep(0.2)  # the interpreter is waiting for this thread now
    print(predictor.predict(image))
    print(*predictor.predict([image] * 5))
    print(*predictor.stream([image] * 3))
    print(tuple(predictor.embed([image] * 2).shape))
    print(mdan_zoo.explain([image] * 2, model=predictor))
    print(mdan_zoo.predict(image))  # loads another model

threading.Thread(target=work).start()
"""


@pytest.mark.slow
def test_threads_that_outlive_the_main_thread_can_predict():
    lines = run_python(LATE, str(CAT)).splitlines()
    one = lines[0]
    assert one.startswith("positive ")
    assert lines[1:4] == [" ".join([one] * 5), " ".join([one] * 3), "(2, 320)"]
    assert lines[4] == f"[Explanation({one}), Explanation({one})]"
    assert lines[5].startswith("positive ")
    assert len(lines) == 6


FORKED = """
import os, signal, sys
import mdan_zoo
from mdan_zoo.inference import predictor
with predictor._loading:  # as in another thread
    if os.fork() == 0:
        signal.alarm(60)
        print(mdan_zoo.predict(sys.argv[1]), flush=True)
        os._exit(0)
    print(os.wait()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_the_shared_model_loads_can_predict():
    prediction, status = run_python(FORKED, str(CAT)).splitlines()
    assert prediction.startswith("positive ")
    assert status == "0"
