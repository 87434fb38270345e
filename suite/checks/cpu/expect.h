// What a program of a test expects: it ends with the claim that does not hold.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void expect(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", claim);
  std::exit(1);
}
