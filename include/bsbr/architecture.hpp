// The list of architectures. Everything that is special about one is in its folder, src/architectures/<name>/.
#pragma once

/// Calls ARCHITECTURE(name) for each architecture, in the order of files, tables and help texts. The one list: the
/// enumeration, names, and whatever differs between architectures follow from it.
#define BSBR_ARCHITECTURES(ARCHITECTURE) \
  ARCHITECTURE(bsbr)                     \
  ARCHITECTURE(standard)                 \
  ARCHITECTURE(linear)                   \
  ARCHITECTURE(delta_net)                \
  ARCHITECTURE(sliding_window)           \
  ARCHITECTURE(hopfield)                 \
  ARCHITECTURE(gau)

namespace bsbr {

/// The attention mechanisms (docs/architectures.md): one enumerator for each name of BSBR_ARCHITECTURES. The array
/// `architectures` lists them for loops over all of them.
enum class Architecture {
#define BSBR_ENUMERATOR(name) name,
  BSBR_ARCHITECTURES(BSBR_ENUMERATOR)
#undef BSBR_ENUMERATOR
};

}  // namespace bsbr
