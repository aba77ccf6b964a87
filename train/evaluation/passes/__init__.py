"""Answers of several passes of a net, or of several nets, to held-out images -> when each pass is made."""
