// model/learner_list.h: every learner, one line each: LEARNER(name).
//
// speckey.c takes the names from here without linking any arithmetic, learner.c the functions: each
// name stands for a `const struct learner learner_<name>` (model/stage.h). No include guard: the
// file is included once for each use, with LEARNER defined, and undefines it.
LEARNER(softmax)
LEARNER(mlp)
LEARNER(vit)
LEARNER(text)
#undef LEARNER
