exec </dev/null 2>&1
MILLRACE_W_BOX=${MESOS_SANDBOX:-$PWD}
millrace_refuse() {
  trap - 0
  printf '%s\n' "$1" >"$MILLRACE_W_BOX/millrace-refused"
  printf 'millrace: %s\n' "$1"
  exit 127
}
millrace_failed() {
  millrace_refuse "command \"$MILLRACE_W_FILE\": can not be executed: the log says why"
}
# The first n of the arguments after n, without anything between them.
millrace_parts() (
  MILLRACE_W_PARTS=$1
  while [ "$MILLRACE_W_PARTS" -gt 0 ]; do
    shift
    printf %s "$1" || exit 1
    MILLRACE_W_PARTS=$((MILLRACE_W_PARTS - 1))
  done
)
cd "$MILLRACE_W_BOX" || millrace_refuse "the sandbox $MILLRACE_W_BOX can not be entered"
MILLRACE_W_DIR=$1 MILLRACE_W_BEAT=$2 MILLRACE_W_CODE=$3 MILLRACE_W_PARTS=$4
shift 4
case $MILLRACE_W_CODE in
plain)
  millrace_parts "$MILLRACE_W_PARTS" "$@" >millrace-input.json || millrace_refuse "the input can not be written to the sandbox $MILLRACE_W_BOX"
  ;;
gzip)
  millrace_parts "$MILLRACE_W_PARTS" "$@" | command -p base64 -d | command -p gzip -dc >millrace-input.json ||
    millrace_refuse "the input is so large that it was sent compressed, and base64 and gzip can not unpack it here: they have to be there, or the run needs fewer batches"
  ;;
esac
shift "$MILLRACE_W_PARTS"
printf '' >millrace-output || millrace_refuse "the sandbox $MILLRACE_W_BOX can not be written to"
export MILLRACE_INPUT="$MILLRACE_W_BOX/millrace-input.json" MILLRACE_OUTPUT="$MILLRACE_W_BOX/millrace-output" MILLRACE_STATE="$MILLRACE_W_BOX/millrace-state"
if [ "$MILLRACE_W_BEAT" = yes ]; then
  printf '' >millrace-heartbeat
  export MILLRACE_HEARTBEAT="$MILLRACE_W_BOX/millrace-heartbeat"
fi
if [ "$MILLRACE_W_DIR" != . ]; then
  [ -d "$MILLRACE_W_DIR" ] || command -p mkdir "$MILLRACE_W_DIR" || millrace_refuse "the directory $MILLRACE_W_BOX/$MILLRACE_W_DIR can not be made"
  cd "$MILLRACE_W_DIR" || millrace_refuse "the directory $MILLRACE_W_BOX/$MILLRACE_W_DIR can not be entered"
fi
case $1 in
*/*) MILLRACE_W_FILE=$1 ;;
*)
  MILLRACE_W_FILE= MILLRACE_W_PATH=$PATH:
  while [ -n "$MILLRACE_W_PATH" ]; do
    MILLRACE_W_ENTRY=${MILLRACE_W_PATH%%:*}/$1
    MILLRACE_W_PATH=${MILLRACE_W_PATH#*:}
    case $MILLRACE_W_ENTRY in
    /*)
      if [ -f "$MILLRACE_W_ENTRY" ] && [ -x "$MILLRACE_W_ENTRY" ]; then
        MILLRACE_W_FILE=$MILLRACE_W_ENTRY
        break
      fi
      ;;
    esac
  done
  [ -n "$MILLRACE_W_FILE" ] || millrace_refuse "command \"$1\": not found in PATH (PATH is \"$PATH\")"
  ;;
esac
[ -e "$MILLRACE_W_FILE" ] || millrace_refuse "command \"$1\": no such file or directory"
[ ! -d "$MILLRACE_W_FILE" ] || millrace_refuse "command \"$1\": is a directory"
[ -x "$MILLRACE_W_FILE" ] || millrace_refuse "command \"$1\": permission denied"
# What only exec finds out, such as a script whose interpreter is not there: most shells end then, and bash is told not to.
trap 'millrace_failed' 0
if command -v shopt >/dev/null; then
  shopt -s execfail
fi
unset OLDPWD @LEAKS@
exec "$@"
millrace_failed
