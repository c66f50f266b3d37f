-- How the replies of a vote ended: one that was cut off teaches to end in the middle.
ALTER TABLE votes ADD COLUMN finish_a /* why the reply of side a ended: stop, length or context; NULL: not known */ TEXT;
ALTER TABLE votes ADD COLUMN finish_b /* why the reply of side b ended: stop, length or context; NULL: not known */ TEXT;
