"""A stand-in inference server that speaks Ollama's and OpenAI's protocols, for demos and tests.

It imports neither Django nor anything else of this project; see docs/simulator.md.
"""
