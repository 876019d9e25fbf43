# Sets bsbr_cached_dependencies to the prefix that scripts/install-dependencies made, or to nothing. Whatever the user names comes before it.
# The installed package asks the same question, on the machine where it is used.
set(bsbr_cached_dependencies "$ENV{HOME}/.cache/bsbr")
if(NOT "$ENV{BSBR_DEPENDENCIES}" STREQUAL "")
  set(bsbr_cached_dependencies "$ENV{BSBR_DEPENDENCIES}")
elseif(NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(bsbr_cached_dependencies "$ENV{XDG_CACHE_HOME}/bsbr")
endif()
if(EXISTS "${bsbr_cached_dependencies}/current")
  file(REAL_PATH "${bsbr_cached_dependencies}/current" bsbr_cached_dependencies)
else()
  set(bsbr_cached_dependencies "")
endif()
