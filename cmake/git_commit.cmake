# bsbr_git_commit(<folder> <result>): the first twelve digits of the commit of the project in that folder, or "unknown". A clone is asked; in an
# archive that git made, git_commit.txt has it; neither is the repository of a project that this one was copied into.
function(bsbr_git_commit folder result)
  set(commit "")
  find_package(Git QUIET)
  if(GIT_FOUND AND EXISTS "${folder}/.git")
    execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${folder}" rev-parse HEAD OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE
                    ERROR_QUIET)
  else()
    file(STRINGS "${folder}/cmake/git_commit.txt" commit LIMIT_COUNT 1)
  endif()
  if(commit MATCHES "^[0-9a-f]+$")
    string(SUBSTRING "${commit}" 0 12 commit)
  else()  # a repository without a commit, or files that were copied without it
    set(commit "unknown")
  endif()
  set(${result} "${commit}" PARENT_SCOPE)
endfunction()

# bsbr_ask_again_after_a_commit(<folder>): git adds each commit to a log; the next build then configures anew.
function(bsbr_ask_again_after_a_commit folder)
  find_package(Git QUIET)
  if(GIT_FOUND AND EXISTS "${folder}/.git")
    execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${folder}" rev-parse --git-path logs/HEAD OUTPUT_VARIABLE log
                    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    cmake_path(ABSOLUTE_PATH log BASE_DIRECTORY "${folder}")
    if(EXISTS "${log}" AND NOT IS_DIRECTORY "${log}")
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${log}")
    endif()
  endif()
endfunction()
