// The traits of each architecture, made once: see traits.hpp.
#include "architectures/traits.hpp"

namespace bsbr {

const Traits& traits(Architecture architecture) {
  return with_architecture(architecture, [](auto tag) -> const Traits& {
    static const Traits made = make_traits(tag);
    return made;
  });
}

}  // namespace bsbr
