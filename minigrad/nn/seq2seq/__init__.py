"""Sequence to sequence: an encoder reads, a decoder writes, and may look back while it does.

    encoder = Encoder(nn.Embedding(...), nn.Stacked([nn.LSTM(...), nn.LSTM(...)]))
    decoder = Decoder(nn.Embedding(...), nn.Stacked([...]), nn.Linear(...), Luong(...))

    outputs, state = encoder(ids, lengths)
    said = decoder(TeacherForcing(inputs, lengths), state, outputs, lengths)
    loss = sequence_loss(said.logits, targets, target_lengths)

One file a purpose: tokens, encoder, attention, helpers (what the decoder reads next), decoder,
beam search, loss.
"""

from .attention import Attention, Bahdanau, Luong, Memory
from .beam import Beams, Tree, beam_search
from .decoder import Carry, Decoded, Decoder
from .encoder import Encoder
from .helpers import Greedy, Helper, Sampling, ScheduledSampling, TeacherForcing
from .loss import sequence_loss
from .tokens import decoder_inputs, lengths_to_eos, sentences

__all__ = [
    "Attention", "Bahdanau", "Beams", "Carry", "Decoded", "Decoder", "Encoder", "Greedy", "Helper",
    "Luong", "Memory", "Sampling", "ScheduledSampling", "TeacherForcing", "Tree", "beam_search",
    "decoder_inputs", "lengths_to_eos", "sentences", "sequence_loss",
]  # fmt: skip
