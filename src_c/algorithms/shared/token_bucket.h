/* A token bucket as one word, wherever it lies: the generic cell rate algorithm.
 *
 * `taken` is what was ever taken. What has come in is known from the time alone, so nothing accumulates and nothing has
 * to tick:
 *
 *     take n:   base = max(taken, in); granted <=> base + n <= in + burst; then taken = base + n
 *
 * So a decision is an addition and a comparison, and the time until a rejected cost fits is exact. A word that what has
 * come in has passed is a full bucket.
 *
 * Included once for each kind of memory (own_bucket.h: of one process, under its lock; limit.h: of a host). Before it,
 * the includer defines RS_CELL(name), which gives a function its prefix; RS_AMOUNT, RS_WORD and RS_SEEN, the types of
 * an amount, of the word, and of its content; RS_LOAD and RS_SWAP, the accesses; RS_DEEPEST, the largest debt; and with
 * that prefix the type `tokens`, which has the `burst`, and the functions `in` and `when`: what has come in by a time,
 * and the reverse. Source: ITU-T I.371, the virtual scheduling form. No Python.h.
 */

/* Move a word on by *n* from *base* at least to *most* at most: 1, or 0 with nothing changed. */
static inline int RS_CELL(move)(RS_WORD *word, RS_SEEN seen, RS_AMOUNT base, RS_AMOUNT n, RS_AMOUNT most)
{
    RS_AMOUNT from;
    do {
        from = (RS_AMOUNT)seen > base ? (RS_AMOUNT)seen : base;
        if (most - from < n)
            return 0;
    } while (!RS_SWAP(word, &seen, (RS_SEEN)(from + n)));
    return 1;
}

/* The same as far as *most*: where it ends. */
static inline RS_AMOUNT RS_CELL(push)(RS_WORD *word, RS_AMOUNT base, RS_AMOUNT n, RS_AMOUNT most)
{
    RS_SEEN seen = RS_LOAD(word);
    RS_AMOUNT end;
    do {
        end = ((RS_AMOUNT)seen > base ? (RS_AMOUNT)seen : base) + n;
        end = end < most ? end : most;
    } while (!RS_SWAP(word, &seen, (RS_SEEN)end));
    return end;
}

/* Take *n*: 1, or 0 with nothing changed. */
static inline int RS_CELL(take)(RS_WORD *word, const RS_CELL(tokens) * tokens, int64_t now_ns, RS_AMOUNT n)
{
    RS_AMOUNT in = RS_CELL(in)(tokens, now_ns);
    return RS_CELL(move)(word, RS_LOAD(word), in, n, in + tokens->burst);
}

/* Take *n* whether they are there or not: beyond the burst they are a debt. */
static inline void RS_CELL(debit)(RS_WORD *word, const RS_CELL(tokens) * tokens, int64_t now_ns, RS_AMOUNT n)
{
    RS_AMOUNT in = RS_CELL(in)(tokens, now_ns);
    if (n > 0)
        RS_CELL(push)(word, in, n, in + RS_DEEPEST);
}

/* Leave at most *left* at *at_ns*; less stays less. Now: another counter has seen more calls. Later: nothing passes
   before. */
static inline void RS_CELL(lower)(RS_WORD *word, const RS_CELL(tokens) * tokens, int64_t at_ns, RS_AMOUNT left)
{
    RS_AMOUNT taken = RS_CELL(in)(tokens, at_ns) + tokens->burst - left;
    RS_SEEN seen = RS_LOAD(word);
    while ((RS_AMOUNT)seen < taken && !RS_SWAP(word, &seen, (RS_SEEN)taken))
        ;
}

/* The amount available; below zero: a debt. */
static inline RS_AMOUNT RS_CELL(available)(RS_WORD *word, const RS_CELL(tokens) * tokens, int64_t now_ns)
{
    RS_AMOUNT in = RS_CELL(in)(tokens, now_ns), taken = (RS_AMOUNT)RS_LOAD(word);
    return in + tokens->burst - (taken > in ? taken : in);
}

/* Nanoseconds until *n* are available. */
static inline int64_t RS_CELL(wait)(RS_WORD *word, const RS_CELL(tokens) * tokens, int64_t now_ns, RS_AMOUNT n)
{
    RS_AMOUNT in = RS_CELL(in)(tokens, now_ns), taken = (RS_AMOUNT)RS_LOAD(word);
    int64_t wait = RS_CELL(when)(tokens, (taken > in ? taken : in) + n - tokens->burst) - now_ns;
    return wait > 0 ? wait : 0;
}

#undef RS_CELL
#undef RS_AMOUNT
#undef RS_WORD
#undef RS_SEEN
#undef RS_LOAD
#undef RS_SWAP
#undef RS_DEEPEST
