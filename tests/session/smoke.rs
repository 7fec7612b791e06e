use onceflight::session::{SessionBegin, SessionRequest};
use onceflight::{ErrorKind, SessionTable};

#[test]
fn a_tour() {
    let mut table =
        SessionTable::builder().window(4).timeout_ms(1000).max_sessions(2).build().unwrap();
    let a = table.register("a", "n", 10).unwrap();
    assert_eq!(table.register("a", "n", 11).unwrap(), a);
    let request = |seq| SessionRequest::new(b"a", a, seq);
    for seq in [3, 1, 2, 4] {
        assert_eq!(table.begin(&request(seq), 12).unwrap(), SessionBegin::Lead);
        assert_eq!(table.expire(13).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(table.record(&request(seq), 7, seq.to_string().as_bytes()).unwrap().status(), 7);
    }
    assert_eq!(table.begin(&request(5), 12).unwrap_err().kind(), ErrorKind::WindowFull);
    let SessionBegin::Replayed(response) = table.begin(&request(3), 12).unwrap() else { panic!() };
    assert_eq!(response.data(), b"3");
    assert_eq!(
        table.begin(&request(4).digest([1; 16]), 12).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(table.begin(&request(5).ack(3), 12).unwrap(), SessionBegin::Lead);
    table.record(&request(5), 0, b"five").unwrap();
    assert_eq!(table.begin(&request(2), 12).unwrap_err().kind(), ErrorKind::SeqStale);
    let frozen = table.freeze().unwrap();
    let bytes = frozen.to_bytes();
    let b = table.register("a", "m", 14).unwrap();
    assert!(b > a);
    assert_eq!(table.begin(&request(5).ack(3), 12).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(frozen.to_bytes(), bytes);
    let mut copy = SessionTable::restore(&bytes).unwrap();
    assert_eq!(copy.freeze().unwrap().to_bytes(), bytes);
    assert_eq!(copy.sessions().collect::<Vec<_>>()[0].replies, 3);
    assert_eq!(copy.expire(2000).unwrap(), 1);
}
