"""A protocol of one's own: a patient tells, a listener answers, and at the end the patient says how it was.

In the configuration: `[protocol]` with `name = "my_protocol.py:listening"`, and a model for each role.
"""

from engine.asking import ask_text
from engine.protocol import protocol
from engine.steps import Generate, Sampling
from engine.views import View


@protocol(roles=("patient", "listener"))
def listening(case, rules):
    sampling = Sampling(rules.max_tokens, rules.temperature)
    patient = View.of(f"You are {case.name}. Your story: {case.history}").hear("(You speak first.)")
    listener = View.of("You listen. Answer in two sentences and give no advice.")
    for turn in range(1, rules.options.get("turns", 3) + 1):
        told = yield from ask_text(Generate(f"{turn}/patient", "patient", patient, sampling, "tell"))
        listener = listener.hear(told.text)
        heard = yield from ask_text(Generate(f"{turn}/listener", "listener", listener, sampling, "answer"))
        listener = listener.say(heard.text, heard.token_ids, heard.tokenizer)
        patient = patient.say(told.text, told.token_ids, told.tokenizer).hear(heard.text)
    asked = patient.hear("(The talk is over. How was it for you?)")
    said = yield from ask_text(Generate("closing", "patient", asked, sampling, "closing"))
    return {"turns": turn, "closing": said.text}
